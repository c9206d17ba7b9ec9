"""A Sawyer arm in Meta-World, with the package's scripted experts."""

import warnings
from typing import Any

import numpy as np

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators.scene import contact_state, geoms_of, paint, show_only_site, state_vector
from roboalign.sources.simulators.simulator import BLUE, GREEN, GREY, ORANGE, Vector
from roboalign.sources.simulators.spec import ImageSpec, MetaworldTask, TaskSpec
from roboalign.sources.simulators.view import View, require_egl
from roboalign.types import Float32, UInt8

_FINGERS = ("rightclaw", "rightpad", "leftclaw", "leftpad")
_ITEM: dict[MetaworldTask, str] = {
    "push": "obj",
    "pick_place": "obj",
    "drawer_close": "drawer_link",
    "door_open": "door_link",
}


class Metaworld:
    """One Meta-World task; see `Simulator`. Actions: hand displacement (centimetres a step) and finger effort."""

    def __init__(self, task: MetaworldTask, spec: TaskSpec, image: ImageSpec) -> None:
        require_egl()
        try:
            from metaworld import policies
            from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        except ImportError as error:
            raise SourceError(f"Meta-World is not installed ({error}); install the extra: roboalign[sim]") from None
        name = task.replace("_", "-")
        self._task = task
        self._env: Any = ALL_V3_ENVIRONMENTS[f"{name}-v3"]()
        env = self._env
        # The goal is part of the observation, and the scene is drawn from the seed at each reset.
        env._partially_observable, env._freeze_rand_vec = False, False
        env._set_task_called, env.seeded_rand_vec = True, True
        del env.sawyer_observation_space
        env.max_path_length = 10**9
        self._expert = getattr(policies, f"Sawyer{name.title().replace('-', '')}V3Policy")()
        self.rate = 1 / env.dt
        model = env.model
        self._gripper, self._item = geoms_of(model, (*_FINGERS, "hand", "right_hand")), geoms_of(model, [_ITEM[task]])
        paint(model, geoms_of(model, _FINGERS), BLUE)
        if task == "drawer_close":
            # By default the drawer is as green as the goal.
            paint(model, geoms_of(model, ["drawer_link", "drawercase_link"]), GREY)
        self._handle = "handle" if task == "door_open" else "objGeom"
        paint(model, [model.geom(self._handle).id], ORANGE)
        show_only_site(model, "goal", GREEN)
        self._view = View(model, image, spec.camera)
        self._success = False
        self._goal = np.zeros(3)
        self._goal_offset: Vector | None = None
        self._observation = np.zeros(39)

    def reset(self, seed: int) -> None:
        """Reset to the initial scene of a seed."""
        import mujoco

        env = self._env
        env.seed(seed)
        mujoco.mj_resetData(env.model, env.data)
        env.curr_path_length = 0
        env.reset_model()
        self._goal = self._solved_position()
        env.model.site("goal").pos = self._goal
        mujoco.mj_forward(env.model, env.data)
        self._observation = env._get_obs()
        self._goal_offset = None
        self._success = bool(env.evaluate_state(self._observation, np.zeros(4))[1]["success"] > 0.5)

    @property
    def _item_position(self) -> Vector:
        """Position (3,) of the puck or of the handle."""
        return np.asarray(self._env.data.geom(self._handle).xpos.copy())

    def _solved_position(self) -> Vector:
        """Return the position (3,) of the object once the task is solved.

        The package's success criterion uses only x for doors, and a point above the drawer for drawers. The handle's
        goal is its position where it crosses that x, or where the drawer is shut.
        """
        import mujoco

        env = self._env
        if self._task in ("push", "pick_place"):
            return np.array(env._target_pos, np.float64)
        joint = int(env.model.body(_ITEM[self._task]).jntadr[0])
        low, high = env.model.jnt_range[joint]
        probe = mujoco.MjData(env.model)
        positions: list[Vector] = []
        for joint_position in np.linspace(low, high, 91):
            probe.qpos[env.model.jnt_qposadr[joint]] = joint_position
            mujoco.mj_kinematics(env.model, probe)
            positions.append(probe.geom(self._handle).xpos.copy())
        if self._task == "drawer_close":
            return max(positions, key=lambda position: float(position[1]))
        return min(positions, key=lambda position: abs(float(position[0] - env._target_pos[0])))

    def set_wrong_goal(self, rng: np.random.Generator) -> None:
        """Set another goal for the expert, or a point next to the handle."""
        if self._task in ("push", "pick_place"):
            side = -1.0 if self._goal[0] > 0 else 1.0
            self._goal_offset = np.array(
                [side * rng.uniform(0.14, 0.2), rng.uniform(-0.05, 0.02), rng.uniform(0, 0.05)]
            )
        elif self._task == "drawer_close":
            self._goal_offset = np.array([rng.choice([-1.0, 1.0]) * rng.uniform(0.17, 0.22), 0.0, 0.0])
        else:
            self._goal_offset = np.array([-rng.uniform(0.08, 0.16), 0.0, rng.uniform(0.08, 0.15)])

    def expert(self) -> Vector:
        """Return the action (4,) of the package's scripted policy; at an opened door the hand rests, because the policy
        would swing the door further."""
        if self._task == "door_open" and self._success:
            return np.array([0.0, 0.0, 0.0, 1.0])
        observation = self._observation.copy()
        if self._goal_offset is not None:
            columns = slice(36, 39) if self._task in ("push", "pick_place") else slice(4, 7)
            observation[columns] += self._goal_offset
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(np.clip(self._expert.get_action(observation), -1, 1), np.float64)

    def approach(self, target: Vector, opening: float) -> Vector:
        """Return the action (4,) that moves the hand towards a point (3,)."""
        return np.append(np.clip(10 * (target - self._env.tcp_center), -1, 1), -opening)

    def step(self, action: Vector) -> None:
        """Apply an action for one control step of 12.5 ms."""
        self._observation, _, _, _, info = self._env.step(np.clip(action, -1, 1).astype(np.float32))
        self._success = bool(info["success"] > 0.5)

    def frame(self) -> UInt8:
        """Return the current image (H, W, 3)."""
        return self._view.frame(self._env.data)

    def state(self) -> Float32:
        """Return the current state (14,), columns STATE_NAMES."""
        env = self._env
        contact = contact_state(env.model, env.data, self._gripper, self._item)
        return state_vector(
            env.tcp_center, self._item_position, self._goal, self._observation[3], contact, self._success
        )

    def project(self, points: Vector) -> Float32:
        """Return image coordinates (N, 2) of points (N, 3)."""
        return self._view.project(points)

    def close(self) -> None:
        """Free the renderer."""
        self._view.close()
        self._env.close()
