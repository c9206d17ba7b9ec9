"""A Kinova Jaco arm from dm_control over a table, driven by joint velocities, with our scripted experts.

The tasks are ours, built from dm_control's models of arm and hand: a cube, a goal, and the verdict that the cube's
centre is within 4 cm of the goal.
"""

from typing import Any

import numpy as np

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators.pusher import pick_and_place, push, wrong_goal
from roboalign.sources.simulators.scene import geoms_of, paint, state_vector, touch
from roboalign.sources.simulators.simulator import BLUE, DARK, GREEN, GREY, ORANGE, Vector
from roboalign.sources.simulators.spec import ImageSpec, JacoTask, TaskSpec
from roboalign.sources.simulators.view import View, require_egl
from roboalign.types import Float32, UInt8

STEP, SUBSTEP = 0.02, 0.004
"""Seconds of a control step and of a physics step."""
SIDE = 0.05
"""Edge of the cube in metres."""
NEAR = 0.04
"""Metres from the goal that count as success."""
REACH = 0.1
"""Objects and goals lie within this many metres of the middle of the table in x and y."""
HEIGHT = 0.15
"""Greatest height in metres of a goal in the air."""
SPEED = 0.25
"""The gripper's greatest speed under the expert in metres a second; the joints' limits are little above it."""
HOME = (0.0, 0.0, 0.13)
"""Where the gripper starts, in metres."""
DOWN = (0.0, 0.70710678, 0.70710678, 0.0)
"""The gripper's orientation, as a quaternion: fingers down."""
NEARBY = (1.4, 2.62, 5.0, 2.91, 0.88, 1.17)
"""Joint angles near those that reach HOME with the elbow up: the search for these starts there."""
ROUGH, SMOOTH = (1.5, 0.02, 0.001), (0.6, 0.01, 0.001)
"""Friction of the fingers, and of cube and table; a contact takes the larger. The cube slides when pushed and stays
between closed fingers."""
_HAND = "jaco_arm/jaco_hand"


class Jaco:
    """One Jaco task; see `Simulator`. Actions: velocities of the six joints, and one of all three fingers (positive
    opens), each as a share of its limit."""

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
        # As it comes the arm is as black as the background.
        paint(model, geoms_of(model, [*links, f"{_HAND}/hand"]), GREY)
        paint(model, geoms_of(model, tips), BLUE)
        model.geom_friction[list(self._gripper)] = ROUGH
        self._limit = model.actuator_ctrlrange[:, 1].copy()
        self._view = View(model, image, spec.camera)
        self._goal, self._aim = np.zeros(3), np.zeros(3)
        self._held = False

    def reset(self, seed: int) -> None:
        """Set up the initial scene that the seed names."""
        import mujoco

        rng = np.random.default_rng(seed)
        model, data = self._model, self._data
        mujoco.mj_resetData(model, data)
        data.qpos[:] = self._home
        data.qpos[self._fingers] = self._closed * 0.9 if self._task == "push" else self._open
        while True:
            item, goal = rng.uniform(-REACH, REACH, 2), rng.uniform(-REACH, REACH, 2)
            if np.linalg.norm(item - goal) > 0.09:
                break
        place = model.joint("object").qposadr[0]
        turn = rng.uniform(-np.pi / 4, np.pi / 4)
        data.qpos[place : place + 7] = [*item, SIDE / 2, np.cos(turn / 2), 0, 0, np.sin(turn / 2)]
        height = rng.uniform(0.06, HEIGHT) if self._task == "lift" else 0.0
        self._goal = np.append(item + 0.5 * (goal - item) if self._task == "lift" else goal, SIDE / 2 + height)
        model.site("goal").pos = self._aim = self._goal
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
        """Aim at another point of the table."""
        self._aim = wrong_goal(rng, self._item_position, self._goal, np.zeros(2), REACH)

    def expert(self) -> Vector:
        """Push, or pick up and lift."""
        gripper, item = self._gripper_position, self._item_position
        if self._task == "push":
            wish = push(gripper, item, self._aim, gain=16.0, height=0.0, behind=0.06)
            return self._joint_velocities(SPEED * wish, -0.3)
        action = pick_and_place(gripper, item, self._aim, self._holds(), gain=16.0, depth=0.01)
        return self._joint_velocities(SPEED * action[:3], float(action[3]))

    def _holds(self) -> bool:
        """Whether the fingers have come to rest on the cube, half closed."""
        speed = float(np.abs(self._data.qvel[self._finger_speeds]).max())
        if touch(self._model, self._data, self._gripper, self._item)[0] < 0.5 or self._opening > 0.6:
            self._held = False
        elif speed < 0.15:
            self._held = True
        return self._held

    def _joint_velocities(self, velocity: Vector, fingers: float) -> Vector:
        """The action (7,) that moves the gripper at a velocity (3,) in m/s with its fingers down, by the damped
        pseudo-inverse of the Jacobian."""
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
        wish = np.append(velocity, 2.0 * spin)
        joints = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-3 * np.eye(6), wish)
        shares = joints / self._limit[:6]
        # Slowing all joints alike keeps the direction where one is at its limit.
        return np.append(shares / max(1.0, float(np.abs(shares).max())), fingers)

    def approach(self, target: Vector, opening: float) -> Vector:
        """Move the gripper towards a point, no lower than the table."""
        target = np.append(target[:2], max(target[2], 0.02))
        wish = np.clip(4 * (target - self._gripper_position), -SPEED, SPEED)
        return self._joint_velocities(wish, opening)

    def step(self, action: Vector) -> None:
        """Act for one control step of 20 ms."""
        import mujoco

        action = np.clip(action, -1, 1)
        self._data.ctrl[:6] = action[:6] * self._limit[:6]
        self._data.ctrl[6:] = -action[6] * self._limit[6:]
        mujoco.mj_step(self._model, self._data, round(STEP / SUBSTEP))
        mujoco.mj_forward(self._model, self._data)

    def frame(self) -> UInt8:
        """The current image (H, W, 3)."""
        return self._view.frame(self._data)

    def state(self) -> Float32:
        """The current state (14,), columns STATE_NAMES."""
        item = self._item_position
        contact = touch(self._model, self._data, self._gripper, self._item)
        success = bool(np.linalg.norm(item - self._goal) < NEAR)
        return state_vector(self._gripper_position, item, self._goal, self._opening, contact, success)

    def project(self, points: Vector) -> Float32:
        """Image coordinates (N, 2) of points (N, 3)."""
        return self._view.project(points)

    def close(self) -> None:
        """Free the renderer and the simulation."""
        self._view.close()
        self._physics.free()


def _build() -> tuple[Any, Vector]:
    """The scene as dm_control's physics, and the joint positions with the gripper at HOME and fingers down."""
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
    # Away from the origin: MuJoCo never moves a site that is compiled to coincide with its body.
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
        physics.bind(arm.joints).qpos = NEARBY
    found = qpos_from_site_pose(
        physics, hand.pinch_site.full_identifier, target_pos=HOME, target_quat=DOWN, joint_names=joints,
        max_steps=2000, rot_weight=1.0,
    )  # fmt: skip
    if not found.success:
        raise SourceError(f"no pose of the Jaco arm puts its gripper at {HOME}; the residual is {found.err_norm:.3f}")
    return physics, np.asarray(found.qpos)
