"""A Franka Panda in panda-gym, with our scripted experts.

PyBullet computes the physics. MuJoCo renders the scene from PyBullet's joint angles and poses, because PyBullet's
software renderers are several times slower and offer less control of the image.
"""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators.pusher import DisplacementController, wrong_goal
from roboalign.sources.simulators.scene import geoms_of, paint, state_vector
from roboalign.sources.simulators.simulator import BLUE, DARK, GREEN, GREY, ORANGE, Vector
from roboalign.sources.simulators.spec import ImageSpec, PandaTask, TaskSpec
from roboalign.sources.simulators.suppress_output import suppress_output
from roboalign.sources.simulators.view import View, require_egl
from roboalign.types import Float32, UInt8

BASE = (-0.6, 0.0, 0.0)
"""Position of the robot's base in panda-gym, in metres."""
WORKSPACE_SIZE = 0.24
"""Side in metres of the square that contains objects and goals (0.3 in the package), so that the camera can be
close."""
HEIGHT = 0.16
"""Largest height in metres of a goal above the table (0.2 in the package)."""
CONTROLLER = DisplacementController(scale=0.35, behind=0.05)
"""The expert's controller."""
SIDE = 0.04
"""Edge of the cube in metres."""
TOUCHING = 0.001
"""Largest distance in metres between robot and cube that counts as contact."""
ARM, FINGERS = tuple(range(7)), (9, 10)
"""PyBullet's indices of the joints of arm and fingers."""


class Panda:
    """One Panda task; see `Simulator`. Actions: gripper displacement (5 cm a step) and finger motion."""

    def __init__(self, task: PandaTask, spec: TaskSpec, image: ImageSpec) -> None:
        require_egl()
        try:
            with suppress_output():
                from panda_gym.envs.robots.panda import Panda as Robot
                from panda_gym.envs.tasks.pick_and_place import PickAndPlace
                from panda_gym.envs.tasks.push import Push
                from panda_gym.pybullet import PyBullet
        except ImportError as error:
            raise SourceError(f"panda-gym is not installed ({error}); install the extra: roboalign[sim]") from None
        self._name = task
        with suppress_output():
            self._sim = PyBullet()
        self._client = self._sim.physics_client
        self._build: tuple[Any, ...] = (Robot, Push, PickAndPlace)
        self._robot: Any = None
        self._task: Any = None
        self.rate = 1 / self._sim.dt
        self._model, self._data = _build_rendering()
        self._view = View(self._model, image, spec.camera)
        self._expert_goal = np.zeros(3)

    def reset(self, seed: int) -> None:
        """Reset to the initial scene of a seed."""
        import pybullet_data

        # PyBullet's contacts and inverse kinematics depend on earlier steps even after a state is restored, so the
        # world is rebuilt, as panda-gym does.
        client, (robot, push_task, place_task) = self._client, self._build
        client.resetSimulation()
        client.setTimeStep(self._sim.timestep)
        client.setAdditionalSearchPath(pybullet_data.getDataPath())
        client.setGravity(0, 0, -9.81)
        self._sim._bodies_idx = {}
        self._robot = robot(self._sim, base_position=np.array(BASE))
        if self._name == "push":
            self._task = push_task(self._sim, goal_xy_range=WORKSPACE_SIZE, obj_xy_range=WORKSPACE_SIZE)
        else:
            self._task = place_task(
                self._sim, goal_xy_range=WORKSPACE_SIZE, goal_z_range=HEIGHT, obj_xy_range=WORKSPACE_SIZE
            )
        self._task.np_random = np.random.default_rng(seed)
        self._robot.reset()
        self._task.reset()
        self._expert_goal = self._task.goal.copy()

    @property
    def _gripper_position(self) -> Vector:
        return np.asarray(self._robot.get_ee_position(), np.float64)

    @property
    def _item_position(self) -> Vector:
        return np.asarray(self._sim.get_base_position("object"), np.float64)

    @property
    def _opening(self) -> float:
        return float(self._robot.get_fingers_width()) / 0.08

    def set_wrong_goal(self, rng: np.random.Generator) -> None:
        """Set another point of the table as the expert's goal."""
        self._expert_goal = wrong_goal(rng, self._item_position, self._task.goal, np.zeros(2), WORKSPACE_SIZE / 2)

    def expert(self) -> Vector:
        """Return the action (4,) that pushes the cube, or picks it up and places it."""
        held = self._opening < 0.53
        return CONTROLLER(self._name, self._gripper_position, self._item_position, self._expert_goal, held)

    def approach(self, target: Vector, opening: float) -> Vector:
        """Return the action (4,) that moves the gripper towards a point (3,)."""
        return np.append(np.clip(10 * (target - self._gripper_position), -0.6, 0.6), opening)

    def step(self, action: Vector) -> None:
        """Apply an action for one control step of 40 ms."""
        self._robot.set_action(np.clip(action, -1, 1))
        self._sim.step()

    def frame(self) -> UInt8:
        """Return the current image (H, W, 3)."""
        import mujoco

        model, data = self._model, self._data
        data.qpos[:9] = [self._client.getJointState(0, joint)[0] for joint in (*ARM, *FINGERS)]
        position, (x, y, z, w) = self._client.getBasePositionAndOrientation(self._sim._bodies_idx["object"])
        data.mocap_pos[0], data.mocap_quat[0] = position, (w, x, y, z)
        data.mocap_pos[1] = self._task.goal
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        return self._view.frame(data)

    def state(self) -> Float32:
        """Return the current state (14,), columns STATE_NAMES."""
        item, goal = self._item_position, self._task.goal
        success = bool(self._task.is_success(item, goal))
        return state_vector(self._gripper_position, item, goal, self._opening, self._contact_state(), success)

    def _contact_state(self) -> tuple[float, float, float]:
        """Return contact, normal force and deepest penetration, as `scene.contact_state` does."""
        robot, item = self._sim._bodies_idx["panda"], self._sim._bodies_idx["object"]
        contacts = self._client.getContactPoints(robot, item)
        force = float(sum(point[9] for point in contacts))
        points = (*contacts, *self._client.getContactPoints(item), *self._client.getContactPoints(robot))
        # Bullet lists pairs before they touch, and a cube that slides ahead is slightly apart between two pushes.
        touching = any(point[8] < TOUCHING for point in contacts)
        return float(touching), force, max((-float(point[8]) for point in points), default=0.0)

    def project(self, points: Vector) -> Float32:
        """Return image coordinates (N, 2) of points (N, 3)."""
        return self._view.project(points)

    def close(self) -> None:
        """Free the renderer and the simulation."""
        self._view.close()
        self._sim.close()


def _build_rendering() -> tuple[Any, Any]:
    """Build a MuJoCo model of arm, table, cube and goal that is only rendered. Returns the model and its data."""
    import mujoco
    import pybullet_data

    folder = Path(pybullet_data.getDataPath()) / "franka_panda"
    # The coarse meshes look the same at this size. MuJoCo reads its options from inside the URDF.
    text = (folder / "panda.urdf").read_text(encoding="utf-8").replace("package://meshes/visual", "meshes/collision")
    text = re.sub(r"<collision>.*?</collision>", "", text.replace("package://", ""), flags=re.DOTALL)
    # MuJoCo warns of each shape without a name.
    number = itertools.count()
    text = re.sub("<visual>", lambda _: f'<visual name="shape{next(number)}">', text)
    options = f'<mujoco><compiler strippath="false" discardvisual="false" meshdir="{folder}"/></mujoco>'
    head = text.index(">", text.index("<robot")) + 1
    robot = mujoco.MjSpec.from_string(text[:head] + options + text[head:])
    scene = mujoco.MjSpec()
    scene.attach(robot, frame=scene.worldbody.add_frame(pos=BASE), prefix="")
    box, sphere = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE
    world = scene.worldbody
    world.add_light(pos=[0.3, 0.3, 1.5], dir=[-0.2, -0.2, -1], diffuse=[0.7] * 3, ambient=[0.35] * 3)
    world.add_geom(name="table", type=box, size=[0.55, 0.35, 0.2], pos=[-0.3, 0, -0.2], rgba=[*DARK, 1])
    item = world.add_body(name="object", mocap=True)
    item.add_geom(type=box, size=[SIDE / 2] * 3, rgba=[*ORANGE, 1])
    goal = world.add_body(name="goal", mocap=True)
    goal.add_geom(type=sphere, size=[0.02, 0, 0], rgba=[*GREEN, 1])
    model = scene.compile()
    paint(model, geoms_of(model, ["panda_leftfinger", "panda_rightfinger"]), BLUE)
    paint(model, geoms_of(model, ["panda_link7"]), GREY)
    return model, mujoco.MjData(model)
