"""Specs of simulated robots: tasks, cameras, policies, and images."""

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from roboalign.sources.shared_spec import Quantile, SplitSpec
from roboalign.spec.base import PROPRIOCEPTION_NAMES, FieldError, Fraction, Positive, Seed, Spec, items
from roboalign.store.spec import StorageSpec

Metres = Annotated[float, Field(ge=-10, le=10)]
"""A coordinate in metres."""


class ImageSpec(Spec):
    """Size of the recorded images."""

    height: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = 64
    """Height in pixels. The default suits a CPU; the paper uses 256."""
    width: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = 64
    """Width in pixels. The default suits a CPU; the paper uses 320."""
    supersample: Annotated[int, Field(ge=1, le=4)] = 2
    """Rendered pixels per recorded pixel and side, which are averaged so that small objects stay legible (our
    choice)."""


class CameraSpec(Spec):
    """A free camera that looks at a point of the scene, close enough to see gripper and object clearly."""

    lookat: tuple[Metres, Metres, Metres] = Field(strict=False)
    """The point at the centre of the image, in metres in the world frame."""
    distance: Annotated[float, Field(gt=0.05, le=10)]
    """Distance from the camera to that point in metres."""
    azimuth: Annotated[float, Field(ge=-360, le=360)]
    """Direction of view around the vertical axis, in degrees (MuJoCo's convention)."""
    elevation: Annotated[float, Field(ge=-90, le=90)]
    """Direction of view above the horizon, in degrees; negative looks down."""
    fovy: Annotated[float, Field(gt=1, lt=170)] = 45.0
    """Vertical field of view in degrees."""


class TaskSpec(Spec):
    """One task of a simulated robot."""

    instructions: Annotated[tuple[Annotated[str, Field(min_length=3, max_length=200)], ...], items()]
    """Alternative wordings of the instruction; each episode uses one of them (our choice)."""
    camera: CameraSpec
    """Camera of the task."""
    weight: Positive = 1.0
    """Weight of the task in the number of episodes, relative to the source's other tasks."""


class PolicyMixSpec(Spec):
    """Fractions of the episodes by policy: experts, and policies that fail (our choice)."""

    expert: Fraction = 0.3
    """Scripted expert without noise."""
    noisy_expert: Fraction = 0.35
    """Expert with smooth noise on its actions; some of these episodes fail."""
    wrong_goal: Fraction = 0.1
    """Expert with another goal than the instructed one."""
    random: Fraction = 0.25
    """Policy that moves to random points near the object and opens and closes its fingers."""

    @model_validator(mode="after")
    def _adds_up(self) -> "PolicyMixSpec":
        total = self.expert + self.noisy_expert + self.wrong_goal + self.random
        if abs(total - 1) > 1e-6:
            raise FieldError("random", f"expert, noisy_expert, wrong_goal and random add up to {total:g}, not to 1")
        return self


class NoiseSpec(Spec):
    """Noise on the actions, as a fraction of the largest action (our choice)."""

    low: Fraction = 0.03
    """Smallest standard deviation of a noisy expert; each episode samples its own between `low` and `high`."""
    high: Fraction = 0.25
    """Largest standard deviation of a noisy expert."""
    correlation: Fraction = 0.85
    """Correlation of the noise from one simulator step to the next; 0 is white noise."""
    wander: Fraction = 0.25
    """Standard deviation of the noise on the random policy."""

    @model_validator(mode="after")
    def _check_order(self) -> "NoiseSpec":
        if self.low > self.high:
            raise FieldError("low", f"low is {self.low:g}, above high, which is {self.high:g}")
        return self


class SimulatedSpec(Spec):
    """Fields of all simulated robots."""

    episodes: Annotated[int, Field(ge=1, le=1_000_000)] = 80
    """Number of episodes to record."""
    length: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Number of frames of an episode: the 30 frames of the paper's rollouts, their context frame, and one more."""
    image: ImageSpec = ImageSpec()
    """Size of the recorded images."""
    storage: StorageSpec = StorageSpec()
    """Storage of the frames."""
    policies: PolicyMixSpec = PolicyMixSpec()
    """Mix of policies."""
    noise: NoiseSpec = NoiseSpec()
    """Noise of the failing policies."""
    split: SplitSpec = SplitSpec()
    """Split of the episodes."""
    seed: Seed = 0
    """Seed of scenes, policies and splits."""
    action_quantile: Quantile = 0.01
    """Actions are normalised by this quantile of the training episodes and its mirror, which are robust against
    outliers (our choice)."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.height, self.image.width

    @property
    @abstractmethod
    def fps(self) -> float:
        """Frames per second of the recordings: control steps per second divided by the control steps per frame."""

    @property
    @abstractmethod
    def action_width(self) -> int:
        """Number of action dimensions."""

    @property
    def proprioception_width(self) -> int:
        """Dimensions of the proprioception, which is a part of the simulator's state."""
        return len(PROPRIOCEPTION_NAMES)


MetaworldTask = Literal["push", "pick_place", "drawer_close", "door_open"]
"""The Meta-World tasks with a tested camera and expert."""


METAWORLD_TASKS: dict[MetaworldTask, TaskSpec] = {
    "push": TaskSpec(
        instructions=("push the orange puck to the green mark", "slide the orange puck onto the green target"),
        camera=CameraSpec(lookat=(0.0, 0.75, 0.08), distance=0.6, azimuth=-135, elevation=-40),
    ),
    "pick_place": TaskSpec(
        instructions=(
            "pick up the orange puck and hold it at the green mark",
            "lift the orange puck to the green target",
        ),
        camera=CameraSpec(lookat=(0.0, 0.74, 0.12), distance=0.65, azimuth=-135, elevation=-35),
    ),
    "drawer_close": TaskSpec(
        instructions=("close the drawer by its orange handle", "push the orange drawer handle to the green mark"),
        camera=CameraSpec(lookat=(0.0, 0.66, 0.12), distance=0.8, azimuth=135, elevation=-35),
    ),
    "door_open": TaskSpec(
        instructions=("open the door by its orange handle", "pull the orange door handle to the green mark"),
        camera=CameraSpec(lookat=(-0.03, 0.62, 0.15), distance=1.05, azimuth=135, elevation=-35),
    ),
}
"""Default tasks of Meta-World, with cameras close enough to see gripper, object and goal clearly (our choice)."""


class MetaworldSpec(SimulatedSpec):
    """A Sawyer arm in Meta-World, with the package's scripted experts."""

    kind: Literal["metaworld"]
    noise: NoiseSpec = NoiseSpec(low=0.02, high=0.3)
    """Noise of the failing policies; grasps tolerate less noise than with the other arms."""
    stride: Annotated[int, Field(ge=1, le=50)] = 4
    """Control steps (12.5 ms each) per frame."""
    tasks: Annotated[dict[MetaworldTask, TaskSpec], Field(min_length=1)] = METAWORLD_TASKS
    """Tasks to record, in turn."""

    @property
    def fps(self) -> float:
        """Frames per second of the recordings."""
        return 80 / self.stride

    @property
    def action_width(self) -> int:
        """Number of action dimensions: hand velocity (3) and finger effort."""
        return 4


FetchTask = Literal["push", "pick_and_place"]
"""The Fetch tasks with a scripted expert."""


FETCH_TASKS: dict[FetchTask, TaskSpec] = {
    "push": TaskSpec(
        instructions=("push the orange block to the green mark", "slide the orange block onto the green target"),
        camera=CameraSpec(lookat=(1.34, 0.75, 0.45), distance=0.6, azimuth=132, elevation=-45),
    ),
    "pick_and_place": TaskSpec(
        instructions=(
            "pick up the orange block and hold it at the green mark",
            "carry the orange block to the green target",
        ),
        camera=CameraSpec(lookat=(1.34, 0.75, 0.5), distance=0.65, azimuth=132, elevation=-35),
    ),
}
"""Default tasks of Fetch, with cameras close enough to see gripper, object and goal clearly (our choice)."""


class FetchSpec(SimulatedSpec):
    """A Fetch arm in Gymnasium-Robotics, with our scripted expert."""

    kind: Literal["fetch"]
    stride: Annotated[int, Field(ge=1, le=50)] = 2
    """Control steps (40 ms each) per frame."""
    tasks: Annotated[dict[FetchTask, TaskSpec], Field(min_length=1)] = FETCH_TASKS
    """Tasks to record, in turn."""

    @property
    def fps(self) -> float:
        """Frames per second of the recordings."""
        return 25 / self.stride

    @property
    def action_width(self) -> int:
        """Number of action dimensions: gripper displacement (3) and finger motion."""
        return 4


PandaTask = Literal["push", "pick_and_place"]
"""The Panda tasks with a scripted expert."""


PANDA_TASKS: dict[PandaTask, TaskSpec] = {
    "push": TaskSpec(
        instructions=("push the orange cube to the green mark", "slide the orange cube onto the green target"),
        camera=CameraSpec(lookat=(0.0, 0.0, 0.05), distance=0.6, azimuth=150, elevation=-45),
    ),
    "pick_and_place": TaskSpec(
        instructions=(
            "pick up the orange cube and hold it at the green mark",
            "carry the orange cube to the green target",
        ),
        camera=CameraSpec(lookat=(0.0, 0.0, 0.08), distance=0.62, azimuth=150, elevation=-35),
    ),
}
"""Default tasks of Panda, with cameras close enough to see gripper, object and goal clearly (our choice)."""


class PandaSpec(SimulatedSpec):
    """A Franka Panda in panda-gym (PyBullet), with our scripted expert."""

    kind: Literal["panda"]
    stride: Annotated[int, Field(ge=1, le=50)] = 2
    """Control steps (40 ms each) per frame."""
    tasks: Annotated[dict[PandaTask, TaskSpec], Field(min_length=1)] = PANDA_TASKS
    """Tasks to record, in turn."""

    @property
    def fps(self) -> float:
        """Frames per second of the recordings."""
        return 25 / self.stride

    @property
    def action_width(self) -> int:
        """Number of action dimensions: gripper displacement (3) and finger motion."""
        return 4


JacoTask = Literal["push", "lift"]
"""The Jaco tasks with a scripted expert."""


JACO_TASKS: dict[JacoTask, TaskSpec] = {
    "push": TaskSpec(
        instructions=("push the orange box to the green mark", "slide the orange box onto the green target"),
        camera=CameraSpec(lookat=(0.0, 0.0, 0.06), distance=0.65, azimuth=60, elevation=-40),
    ),
    "lift": TaskSpec(
        instructions=(
            "lift the orange box up to the green mark",
            "pick up the orange box and hold it at the green target",
        ),
        camera=CameraSpec(lookat=(0.0, 0.0, 0.1), distance=0.65, azimuth=60, elevation=-30),
    ),
}
"""Default tasks of Jaco, with cameras close enough to see gripper, object and goal clearly (our choice)."""


class JacoSpec(SimulatedSpec):
    """A Kinova Jaco arm from dm_control over a table, controlled by joint velocities, with our scripted expert."""

    kind: Literal["jaco"]
    stride: Annotated[int, Field(ge=1, le=50)] = 7
    """Control steps (20 ms each) per frame."""
    tasks: Annotated[dict[JacoTask, TaskSpec], Field(min_length=1)] = JACO_TASKS
    """Tasks to record, in turn."""

    @property
    def fps(self) -> float:
        """Frames per second of the recordings."""
        return 50 / self.stride

    @property
    def action_width(self) -> int:
        """Number of action dimensions: velocities of six joints and of the fingers."""
        return 7


DisplacementRobotSpec = FetchSpec | PandaSpec
"""Union of the specs of robots that a `DisplacementController` moves."""

SimulatedRobotSpec = MetaworldSpec | FetchSpec | PandaSpec | JacoSpec
"""Union of the specs of simulated robots."""
