"""A Fetch arm in Gymnasium-Robotics, with our scripted experts."""

import numpy as np

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators.pusher import DisplacementController, wrong_goal
from roboalign.sources.simulators.scene import contact_state, geoms_of, paint, show_only_site, state_vector
from roboalign.sources.simulators.simulator import BLUE, DARK, GREEN, ORANGE, Vector
from roboalign.sources.simulators.spec import FetchTask, ImageSpec, TaskSpec
from roboalign.sources.simulators.suppress_output import suppress_output
from roboalign.sources.simulators.view import View, require_egl
from roboalign.types import Float32, UInt8

_FINGERS = ("robot0:r_gripper_finger_link", "robot0:l_gripper_finger_link")
MAX_DISTANCE = 0.12
"""Largest distance in metres of objects and goals from the gripper's initial position in x and y (0.15 in the package),
so that the camera can be close."""
HEIGHT_FACTOR = 0.4
"""Factor on the height of goals above the table (up to 0.45 m in the package), for the same reason."""
CONTROLLER = DisplacementController(scale=0.45, behind=0.06)
"""The expert's controller."""


class Fetch:
    """One Fetch task; see `Simulator`. Actions: gripper displacement (5 cm a step) and finger motion."""

    def __init__(self, task: FetchTask, spec: TaskSpec, image: ImageSpec) -> None:
        require_egl()
        try:
            # The package warns of changes to robots that are not used here.
            with suppress_output():
                from gymnasium_robotics.envs.fetch.pick_and_place import MujocoFetchPickAndPlaceEnv
                from gymnasium_robotics.envs.fetch.push import MujocoFetchPushEnv
        except ImportError as error:
            raise SourceError(f"Gymnasium-Robotics is missing ({error}); install the extra: roboalign[sim]") from None
        self._task = task
        self._env = MujocoFetchPushEnv() if task == "push" else MujocoFetchPickAndPlaceEnv()
        self.rate = 1 / self._env.dt
        model = self._env.model
        self._gripper = geoms_of(model, (*_FINGERS, "robot0:gripper_link"))
        self._item = geoms_of(model, ["object0"])
        paint(model, geoms_of(model, _FINGERS), BLUE)
        paint(model, self._item, ORANGE)
        paint(model, geoms_of(model, ["table0"]), DARK)
        model.geom_rgba[list(geoms_of(model, ["robot0:mocap"])), 3] = 0
        show_only_site(model, "target0", GREEN)
        self._view = View(model, image, spec.camera)
        self._expert_goal = np.zeros(3)

    def reset(self, seed: int) -> None:
        """Reset to the initial scene of a seed."""
        import mujoco

        env = self._env
        env.obj_range = env.target_range = MAX_DISTANCE
        env.reset(seed=seed)
        env.goal[2] = env.height_offset + HEIGHT_FACTOR * (env.goal[2] - env.height_offset)
        env.model.site("target0").pos = env.goal - env.data.body("floor0").xpos
        mujoco.mj_forward(env.model, env.data)
        self._expert_goal = env.goal.copy()

    @property
    def _gripper_position(self) -> Vector:
        return np.asarray(self._env.data.site("robot0:grip").xpos.copy())

    @property
    def _item_position(self) -> Vector:
        return np.asarray(self._env.data.site("object0").xpos.copy())

    @property
    def _opening(self) -> float:
        fingers = (self._env.data.joint(f"robot0:{side}_gripper_finger_joint").qpos[0] for side in "rl")
        return float(sum(fingers)) / 0.1

    def set_wrong_goal(self, rng: np.random.Generator) -> None:
        """Set another point of the table as the expert's goal."""
        self._expert_goal = wrong_goal(
            rng, self._item_position, self._env.goal, self._env.initial_gripper_xpos, MAX_DISTANCE
        )

    def expert(self) -> Vector:
        """Return the action (4,) that pushes the object, or picks it up and places it."""
        held = self._opening < 0.51
        return CONTROLLER(self._task, self._gripper_position, self._item_position, self._expert_goal, held)

    def approach(self, target: Vector, opening: float) -> Vector:
        """Return the action (4,) that moves the gripper towards a point (3,)."""
        return np.append(np.clip(10 * (target - self._gripper_position), -0.6, 0.6), opening)

    def step(self, action: Vector) -> None:
        """Apply an action for one control step of 40 ms."""
        import mujoco

        self._env.step(np.clip(action, -1, 1))
        mujoco.mj_forward(self._env.model, self._env.data)

    def frame(self) -> UInt8:
        """Return the current image (H, W, 3)."""
        return self._view.frame(self._env.data)

    def state(self) -> Float32:
        """Return the current state (14,), columns STATE_NAMES."""
        env = self._env
        contact = contact_state(env.model, env.data, self._gripper, self._item)
        success = bool(env._is_success(self._item_position, env.goal) > 0.5)
        return state_vector(self._gripper_position, self._item_position, env.goal, self._opening, contact, success)

    def project(self, points: Vector) -> Float32:
        """Return image coordinates (N, 2) of points (N, 3)."""
        return self._view.project(points)

    def close(self) -> None:
        """Free the renderer."""
        self._view.close()
        self._env.close()
