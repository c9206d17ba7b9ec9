"""A Kinova Jaco arm from dm_control over a table, controlled by joint velocities, with our scripted experts.

The tasks are ours, built from dm_control's models of arm and hand: a cube and a goal. A task is solved if the cube's
centre is within 4 cm of the goal.
"""

from typing import Any

import numpy as np

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators.pusher import pick_and_place, push, wrong_goal
from roboalign.sources.simulators.scene import contact_state, geoms_of, paint, state_vector
from roboalign.sources.simulators.simulator import BLUE, DARK, GREEN, GREY, ORANGE, Vector
from roboalign.sources.simulators.spec import ImageSpec, JacoTask, TaskSpec
from roboalign.sources.simulators.view import View, require_egl
from roboalign.types import Float32, UInt8

STEP, SUBSTEP = 0.02, 0.004
"""Duration of a control step and of a physics step in seconds."""
SIDE = 0.05
"""Edge of the cube in metres."""
SUCCESS_DISTANCE = 0.04
"""Largest distance in metres from the goal for success."""
MAX_DISTANCE = 0.1
"""Largest distance in metres of objects and goals from the middle of the table in x and y."""
HEIGHT = 0.15
"""Largest height in metres of a goal above the table."""
MAX_SPEED = 0.25
"""Largest speed of the gripper under the expert in metres per second, slightly below the joints' limits."""
HOME = (0.0, 0.0, 0.13)
"""Initial position of the gripper in metres."""
DOWN = (0.0, 0.70710678, 0.70710678, 0.0)
"""Orientation of the gripper as a quaternion: fingers down."""
INITIAL_ANGLES = (1.4, 2.62, 5.0, 2.91, 0.88, 1.17)
"""Initial joint angles of the inverse kinematics of HOME, with the elbow up."""
ROUGH, SMOOTH = (1.5, 0.02, 0.001), (0.6, 0.01, 0.001)
"""Friction of the fingers, and of cube and table; a contact uses the larger one. The cube slides when pushed and stays
between closed fingers."""
_HAND = "jaco_arm/jaco_hand"


class Jaco:
    """One Jaco task; see `Simulator`.

    Actions: velocities of the six joints, and one of all three fingers (positive opens), each as a fraction of its
    limit.
    """

    def __init__(self, task: JacoTask, spec: TaskSpec, image: ImageSpec) -> None:
        require_egl()
        self._task = task
        self._physics, self._home = _build()
        self._model: Any = self._physics.model.ptr
        self._data: Any = self._physics.data.ptr
        model = self._model
        self.rate = 1 / STEP
        self._arm = [int(model.joint(f"jaco_arm/joint_{i}").dofadr[0]) for i in range(1, 7)]
        self._fingers = [int(model.joint(f"{_HAND}/finger_{i}").qposadr[0]) for i in range(1, 4)]
        self._finger_speeds = [int(model.joint(f"{_HAND}/finger_{i}").dofadr[0]) for i in range(1, 4)]
        self._closed, self._open = model.joint(f"{_HAND}/finger_1").range[1], model.joint(f"{_HAND}/finger_1").range[0]
        self._site = model.site(f"{_HAND}/pinchsite").id
        tips = [f"{_HAND}/b_finger_{part}{i}" for i in range(1, 4) for part in ("", "tip_")]
        self._gripper = geoms_of(model, [*tips, f"{_HAND}/hand"])
        self._item = geoms_of(model, ["object"])
        links = [f"jaco_arm/b_{part}" for part in ("base", *range(1, 6))]
        # By default the arm is as black as the background.
        paint(model, geoms_of(model, [*links, f"{_HAND}/hand"]), GREY)
        paint(model, geoms_of(model, tips), BLUE)
        model.geom_friction[list(self._gripper)] = ROUGH
        self._limit = model.actuator_ctrlrange[:, 1].copy()
        self._view = View(model, image, spec.camera)
        self._goal, self._expert_goal = np.zeros(3), np.zeros(3)
        self._held = False

    def reset(self, seed: int) -> None:
        """Reset to the initial scene of a seed."""
        import mujoco

        rng = np.random.default_rng(seed)
        model, data = self._model, self._data
        mujoco.mj_resetData(model, data)
        data.qpos[:] = self._home
        data.qpos[self._fingers] = self._closed * 0.9 if self._task == "push" else self._open
        while True:
            item, goal = rng.uniform(-MAX_DISTANCE, MAX_DISTANCE, 2), rng.uniform(-MAX_DISTANCE, MAX_DISTANCE, 2)
            if np.linalg.norm(item - goal) > 0.09:
                break
        address = model.joint("object").qposadr[0]
        yaw = rng.uniform(-np.pi / 4, np.pi / 4)
        data.qpos[address : address + 7] = [*item, SIDE / 2, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        height = rng.uniform(0.06, HEIGHT) if self._task == "lift" else 0.0
        self._goal = np.append(item + 0.5 * (goal - item) if self._task == "lift" else goal, SIDE / 2 + height)
        model.site("goal").pos = self._expert_goal = self._goal
        mujoco.mj_forward(model, data)
        self._held = False

    @property
    def _gripper_position(self) -> Vector:
        return np.asarray(self._data.site_xpos[self._site].copy())

    @property
    def _item_position(self) -> Vector:
        return np.asarray(self._data.body("object").xpos.copy())

    @property
    def _opening(self) -> float:
        mean = float(np.mean(self._data.qpos[self._fingers]))
        return float((self._closed - mean) / (self._closed - self._open))

    def set_wrong_goal(self, rng: np.random.Generator) -> None:
        """Set another point of the table as the expert's goal."""
        self._expert_goal = wrong_goal(rng, self._item_position, self._goal, np.zeros(2), MAX_DISTANCE)

    def expert(self) -> Vector:
        """Return the action (7,) that pushes the cube, or picks it up and lifts it."""
        gripper, item = self._gripper_position, self._item_position
        if self._task == "push":
            velocity = push(gripper, item, self._expert_goal, gain=16.0, height=0.0, behind=0.06)
            return self._joint_velocities(MAX_SPEED * velocity, -0.3)
        action = pick_and_place(gripper, item, self._expert_goal, self._holds(), gain=16.0, depth=0.01)
        return self._joint_velocities(MAX_SPEED * action[:3], float(action[3]))

    def _holds(self) -> bool:
        """Whether the fingers rest on the cube, half closed."""
        speed = float(np.abs(self._data.qvel[self._finger_speeds]).max())
        if contact_state(self._model, self._data, self._gripper, self._item)[0] < 0.5 or self._opening > 0.6:
            self._held = False
        elif speed < 0.15:
            self._held = True
        return self._held

    def _joint_velocities(self, velocity: Vector, fingers: float) -> Vector:
        """Return the action (7,) that moves the gripper at a velocity (3,) in m/s with its fingers down.

        It is computed by the damped pseudo-inverse of the Jacobian.
        """
        import mujoco

        model, data = self._model, self._data
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, self._site)
        now, error, spin = np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_mat2Quat(now, data.site_xmat[self._site])
        mujoco.mju_negQuat(error, now)
        mujoco.mju_mulQuat(error, np.asarray(DOWN), error.copy())
        mujoco.mju_quat2Vel(spin, error, 1.0)
        jacobian = np.vstack([linear, angular])[:, self._arm]
        target_velocity = np.append(velocity, 2.0 * spin)
        joints = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-3 * np.eye(6), target_velocity)
        fractions = joints / self._limit[:6]
        # Scaling all joints equally keeps the direction if one exceeds its limit.
        return np.append(fractions / max(1.0, float(np.abs(fractions).max())), fingers)

    def approach(self, target: Vector, opening: float) -> Vector:
        """Return the action (7,) that moves the gripper towards a point (3,), but not below the table."""
        target = np.append(target[:2], max(target[2], 0.02))
        velocity = np.clip(4 * (target - self._gripper_position), -MAX_SPEED, MAX_SPEED)
        return self._joint_velocities(velocity, opening)

    def step(self, action: Vector) -> None:
        """Apply an action for one control step of 20 ms."""
        import mujoco

        action = np.clip(action, -1, 1)
        self._data.ctrl[:6] = action[:6] * self._limit[:6]
        self._data.ctrl[6:] = -action[6] * self._limit[6:]
        mujoco.mj_step(self._model, self._data, round(STEP / SUBSTEP))
        mujoco.mj_forward(self._model, self._data)

    def frame(self) -> UInt8:
        """Return the current image (H, W, 3)."""
        return self._view.frame(self._data)

    def state(self) -> Float32:
        """Return the current state (14,), columns STATE_NAMES."""
        item = self._item_position
        contact = contact_state(self._model, self._data, self._gripper, self._item)
        success = bool(np.linalg.norm(item - self._goal) < SUCCESS_DISTANCE)
        return state_vector(self._gripper_position, item, self._goal, self._opening, contact, success)

    def project(self, points: Vector) -> Float32:
        """Return image coordinates (N, 2) of points (N, 3)."""
        return self._view.project(points)

    def close(self) -> None:
        """Free the renderer and the simulation."""
        self._view.close()
        self._physics.free()


def _build() -> tuple[Any, Vector]:
    """Build the scene; returns dm_control's physics, and the joint positions with the gripper at HOME and fingers
    down."""
    try:
        from dm_control import mjcf
        from dm_control.entities.manipulators.kinova import JacoArm, JacoHand
        from dm_control.utils.inverse_kinematics import qpos_from_site_pose
    except ImportError as error:
        raise SourceError(f"dm_control is not installed ({error}); install the extra: roboalign[sim]") from None
    root = mjcf.RootElement(model="table")
    root.option.timestep = SUBSTEP
    root.visual.map.znear = 0.005
    world = root.worldbody
    world.add("light", pos=[-0.5, -0.5, 1.5], dir=[0.3, 0.3, -1], diffuse=[0.7] * 3, ambient=[0.3] * 3)
    world.add(
        "geom", name="table", type="box", size=[0.45, 0.55, 0.1], pos=[0, 0.1, -0.1], rgba=[*DARK, 1], friction=SMOOTH
    )
    # Not at the origin: MuJoCo never moves a site that coincides with its body when compiled.
    world.add("site", name="goal", pos=[0.1, 0.1, 0.1], type="sphere", size=[0.02], rgba=[*GREEN, 1])
    item = world.add("body", name="object", pos=[0, 0, SIDE / 2])
    item.add("freejoint", name="object")
    item.add("geom", type="box", size=[SIDE / 2] * 3, mass=0.1, rgba=[*ORANGE, 1], friction=SMOOTH, condim=4)
    arm, hand = JacoArm(), JacoHand(use_pinch_site_as_tcp=True)
    arm.attach(hand)
    foot = world.add("site", name="foot", pos=[0, 0.4, 0], rgba=[0, 0, 0, 0])
    foot.attach(arm.mjcf_model)
    physics = mjcf.Physics.from_mjcf_model(root)
    joints = [joint.full_identifier for joint in arm.joints]
    with physics.reset_context():
        physics.bind(arm.joints).qpos = INITIAL_ANGLES
    solution = qpos_from_site_pose(
        physics, hand.pinch_site.full_identifier, target_pos=HOME, target_quat=DOWN, joint_names=joints,
        max_steps=2000, rot_weight=1.0,
    )  # fmt: skip
    if not solution.success:
        raise SourceError(
            f"no pose of the Jaco arm puts its gripper at {HOME}; the residual is {solution.err_norm:.3f}"
        )
    return physics, np.asarray(solution.qpos)
