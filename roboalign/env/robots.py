"""The simulated robots as Gymnasium environments, with the observation and action spaces of the world model's.

    robots = RobotVectorEnv(8, robot="fetch", experiment=".")
    observations, infos = robots.reset(options={"episodes": ["fetch/000012"] * 8})
    observations, rewards, terminated, truncated, infos = robots.step(actions)   # held for the control steps of a frame

An episode's scene is that of its recording, and so is its first frame, if the store keeps frames without loss.

Models may be loaded after a simulator has rendered only because this module imports torch's libraries first (through
`scoring`): Triton, which they load, crashes if it comes after the LLVM of Mesa's software renderer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from roboalign.env.actions import ActionScale
from roboalign.env.episodes import InitialScene, SourceEpisodes
from roboalign.env.errors import EnvError
from roboalign.env.scoring import load_clip_scorer
from roboalign.env.single import SingleEnv
from roboalign.env.vector import EpisodeOptions, EpisodeVectorEnv
from roboalign.io import find_output
from roboalign.run import read_section
from roboalign.sources.builder import build_simulator
from roboalign.sources.simulators.record import Assignment, assign, control, set_scene, state_since
from roboalign.sources.simulators.simulator import Simulator
from roboalign.sources.simulators.spec import SimulatedRobotSpec, SimulatedSpec
from roboalign.sources.spec import SourceSpec
from roboalign.types import Float32, UInt8

RobotReward = Literal["simulator", "student", "judge", "none"]
RobotName = Literal["metaworld", "fetch", "panda", "jaco"]


class RobotOptions(EpisodeOptions, total=False):
    """Arguments of the robots' environments besides `robot` and `num_envs`."""

    source: str | None
    """The source of the experiment; None for the first one of this robot."""
    reward: RobotReward
    """`simulator` (the default): 1 at steps at which the simulator reports success; `student` or `judge`: the alignment
    reward of the clip, at the end of the episode; `none`: 0."""


class RobotVectorEnv(EpisodeVectorEnv):
    """N simulators of one robot, stepped in turn."""

    def __init__(self, num_envs: int = 1, *, robot: RobotName, **options: Unpack[RobotOptions]) -> None:
        """Read an experiment's source; simulators are built at `reset`, and kept for later ones. See `RobotOptions`.

        Raises:
            EnvError: An argument is not valid.
            StageError: A file is missing.
        """
        root = Path(options.get("experiment", "."))
        reward = options.get("reward", "simulator")
        if reward not in get_args(RobotReward):
            raise EnvError(f"reward must be one of {', '.join(get_args(RobotReward))}, not {reward!r}")
        source, self.robot_spec = find_robot(root, robot, options.get("source"))
        episodes = SourceEpisodes(root, source)
        scale = ActionScale(source, episodes.corpus.ranges[source], options.get("normalize_actions", False))
        scorer = None
        if reward == "student" or reward == "judge":
            variant, width = options.get("variant", "faithful"), episodes.corpus.action_width
            scorer = load_clip_scorer(root, reward, variant, width, options.get("device", "cpu"))
        super().__init__(num_envs, episodes, scale, reward, scorer, options)
        self._assignments: dict[str, Assignment] = {
            f"{source}/{each.number:06d}": each for each in assign(self.robot_spec)
        }
        self.simulators: list[Simulator | None] = [None] * num_envs
        """The simulator of each copy, for scripted experts; None before its first reset."""
        self._tasks: list[str] = [""] * num_envs
        self._idle: dict[str, list[Simulator]] = {}
        """Simulators by task that no copy uses; building one takes seconds."""
        self._touch = np.zeros((num_envs, 3), np.float32)

    def _begin(self, rows: NDArray[np.int64], scenes: Sequence[InitialScene], seeds: NDArray[np.int64]) -> UInt8:
        assignments = [self._assignment(scene) for scene in scenes]
        for row in rows:
            self._release(row)
        frames = np.empty((len(rows), *self.episodes.shape), np.uint8)
        for place, (row, assignment) in enumerate(zip(rows, assignments, strict=True)):
            idle = self._idle.get(assignment.task)
            simulator = idle.pop() if idle else build_simulator(self.robot_spec, assignment.task)
            self.simulators[row], self._tasks[row] = simulator, assignment.task
            set_scene(self.robot_spec, self.scale.source, assignment, simulator)
            frames[place] = simulator.frame()
        self._touch[rows] = 0
        return frames

    def _assignment(self, scene: InitialScene) -> Assignment:
        if scene.episode is None:
            raise EnvError("a simulated robot cannot start from an image; give an episode")
        assignment = self._assignments.get(scene.episode)
        if assignment is None or (assignment.task, assignment.instruction) != (scene.task, scene.instruction):
            raise EnvError(f"{scene.episode} was not recorded by build/spec/sources.yaml as it is now; run `dvc repro`")
        return assignment

    def _release(self, row: int) -> None:
        simulator = self.simulators[row]
        if simulator is not None:
            self._idle.setdefault(self._tasks[row], []).append(simulator)
            self.simulators[row] = None

    def _advance(self, rows: NDArray[np.int64], values: Float32) -> UInt8:
        frames = np.empty((len(rows), *self.episodes.shape), np.uint8)
        for place, action in enumerate(self.scale.to_source(values).astype(np.float64)):
            simulator = self._simulator(rows[place])
            _, self._touch[rows[place]] = control(simulator, lambda action=action: action, self.robot_spec.stride)
            frames[place] = simulator.frame()
        return frames

    def _simulator(self, row: int) -> Simulator:
        simulator = self.simulators[row]
        assert simulator is not None
        return simulator

    def _read_states(self, rows: NDArray[np.int64]) -> tuple[Float32, NDArray[np.bool_]]:
        states = np.stack([state_since(self._simulator(row), self._touch[row]) for row in rows])
        return states, np.ones(len(rows), np.bool_)

    def close_extras(self) -> None:
        """Free the simulators."""
        for row in range(self.num_envs):
            self._release(row)
        for simulators in self._idle.values():
            for simulator in simulators:
                simulator.close()
        self._idle = {}


class RobotEnv(SingleEnv):
    """A simulated robot: a `RobotVectorEnv` of one copy."""

    vector: RobotVectorEnv

    def __init__(self, *, robot: RobotName, **options: Unpack[RobotOptions]) -> None:
        super().__init__(RobotVectorEnv(1, robot=robot, **options))


def find_robot(root: Path, robot: str, source: str | None) -> tuple[str, SimulatedRobotSpec]:
    """The name and spec of the experiment's source of a robot. Raises EnvError if it does not have one."""
    file = find_output(root, "build/spec/sources.yaml")
    sources = read_section(file, "sources", dict[str, SourceSpec])
    names = [name for name, spec in sources.items() if isinstance(spec, SimulatedSpec) and spec.kind == robot]
    if source is None and names:
        source = names[0]
    if source not in names:
        has = f"those are {', '.join(names)}" if names else "it has none"
        raise EnvError(f"the experiment has no source {source or ''!r} of the robot {robot}; {has}")
    return source, sources[source]
