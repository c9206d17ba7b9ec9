"""A trained world model as a Gymnasium environment.

    envs = WorldModelVectorEnv(8, experiment=".", source="fetch", reward="student")
    observations, infos = envs.reset(seed=0)
    observations, rewards, terminated, truncated, infos = envs.step(actions)     # (8, A), in the source's units
    futures = envs.branch([0, 0, 0], seeds=[1, 2, 3])                            # three copies of the first

The same images as the rollout stage's, byte by byte, for the same first frame, actions and seed; a copy's images do not
depend on the other copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from roboalign.env.actions import ActionScale
from roboalign.env.episodes import InitialScene, SourceEpisodes
from roboalign.env.errors import EnvError
from roboalign.env.perception import StateTracker
from roboalign.env.scoring import load_clip_scorer
from roboalign.env.single import SingleEnv
from roboalign.env.vector import EpisodeOptions, EpisodeVectorEnv, read_seeds
from roboalign.io import find_output
from roboalign.probe.model import load_probe
from roboalign.probe.spec import ProbeName
from roboalign.rollout.spec import FixedDecodingSpec, ModelName
from roboalign.simulation.load import World, load
from roboalign.types import Float32, UInt8

WorldModelReward = Literal["student", "judge", "probe", "none"]


class WorldModelOptions(EpisodeOptions, total=False):
    """Arguments of the world model's environments besides `source` and `num_envs`."""

    model: ModelName
    """`aligned` (the default) or `supervised`."""
    decoding: str | FixedDecodingSpec | None
    """A name in the experiment's `rollout.decodings`, or a spec; None for its `scored_decoding` (SWR)."""
    temperature: float
    """Temperature of the sampling; 0, the default, is greedy."""
    reward: WorldModelReward
    """`student` (the default) or `judge`: the alignment reward of the clip, at the end of the episode, 0 before;
    `probe`: 1 at steps at which the probe perceives success; `none`: 0."""
    probe: ProbeName | None
    """The state probe that perceives states and success, `gold` by default; None for none."""


@dataclass
class _Cohort:
    """Copies that were reset together: one batch of rollouts."""

    rows: NDArray[np.int64]
    world: World


class WorldModelVectorEnv(EpisodeVectorEnv):
    """N copies of a world model's robot, with one sampler and a seed for each copy."""

    def __init__(self, num_envs: int = 1, *, source: str, **options: Unpack[WorldModelOptions]) -> None:
        """Load an experiment; see `WorldModelOptions`.

        Raises EnvError or SimulationError if an argument is not valid, StageError if a file is missing.
        """
        root, device = Path(options.get("experiment", ".")), options.get("device", "cpu")
        reward, probe = options.get("reward", "student"), options.get("probe", "gold")
        if reward not in get_args(WorldModelReward):
            raise EnvError(f"reward must be one of {', '.join(get_args(WorldModelReward))}, not {reward!r}")
        if probe is not None and probe not in get_args(ProbeName):
            raise EnvError(f"probe must be None or one of {', '.join(get_args(ProbeName))}, not {probe!r}")
        if probe is None and reward == "probe":
            raise EnvError("reward 'probe' needs a probe; name one")
        model = options.get("model", "aligned")
        if model not in get_args(ModelName):
            raise EnvError(f"model must be one of {', '.join(get_args(ModelName))}, not {model!r}")
        episodes = SourceEpisodes(root, source)
        self.simulation = load(
            root, model, options.get("decoding"), temperature=options.get("temperature", 0.0), device=device
        )
        scale = ActionScale(source, self.simulation.action_range(source), options.get("normalize_actions", False))
        scorer = None
        if reward == "student" or reward == "judge":
            variant = options.get("variant", "faithful")
            scorer = load_clip_scorer(root, reward, variant, self.simulation.width, device)
        super().__init__(num_envs, episodes, scale, reward, scorer, options)
        self._tracker = None
        if probe is not None:
            network = load_probe(find_output(root, f"artifacts/probe/{probe}/model.safetensors")).to(device)
            self._tracker = StateTracker(network, source, num_envs, self.horizon + 1)
        self._cohorts: list[_Cohort] = []

    def branch(self, rows: Sequence[int] | NDArray[np.int64], seeds: Sequence[int] | None = None) -> Self:
        """A new environment that goes on from the copies `rows`, which may repeat; this one stays as it is.

        Copies of one row show the same under the same actions, unless the temperature is above 0 and they get `seeds`
        of their own. Models are shared. Raises EnvError if a row does not exist, or on another number of seeds.
        """
        chosen = np.asarray(rows)
        if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
            raise EnvError("branch takes the numbers of one or more copies")
        if chosen.min() < 0 or chosen.max() >= self.num_envs:
            raise EnvError(f"branch takes copies from 0 to {self.num_envs - 1}, not {chosen.tolist()}")
        given = None if seeds is None else torch.tensor(read_seeds(list(seeds), len(chosen)))
        new = self._copy_rows(chosen)
        new._tracker = None if self._tracker is None else self._tracker.select(chosen)
        new._cohorts = []
        for cohort in self._cohorts:
            places, local = np.nonzero(chosen[:, None] == cohort.rows)
            if len(places):
                picked = None if given is None else given[places].to(self.simulation.device)
                world = cohort.world.select(self._index(local), picked)
                new._cohorts.append(_Cohort(places, world))
        return new

    def _begin(self, rows: NDArray[np.int64], scenes: Sequence[InitialScene], seeds: NDArray[np.int64]) -> UInt8:
        images = np.stack([scene.image for scene in scenes])
        world = self.simulation.reset(self.scale.source, images, seeds.tolist(), self.horizon)
        self._keep(~np.isin(np.arange(self.num_envs), rows))
        self._cohorts.append(_Cohort(rows, world))
        if self._tracker is not None:
            self._tracker.begin(rows, [scene.task for scene in scenes], images)
        return images

    def _advance(self, rows: NDArray[np.int64], values: Float32) -> UInt8:
        frames = np.empty((self.num_envs, *self.episodes.shape), np.uint8)
        actions = np.zeros((self.num_envs, self.scale.width), np.float32)
        actions[rows] = self.scale.to_model(values)
        self._keep(np.isin(np.arange(self.num_envs), rows))
        for cohort in self._cohorts:
            frames[cohort.rows] = self.simulation.step(cohort.world, self.simulation.pad(actions[cohort.rows]))
        moved: UInt8 = frames[rows]
        return moved

    def _keep(self, wanted: NDArray[np.bool_]) -> None:
        """Drop the rollouts of the copies that are not `wanted` (N,)."""
        for cohort in self._cohorts:
            stay = wanted[cohort.rows]
            if stay.any() and not stay.all():
                cohort.world = cohort.world.select(self._index(np.flatnonzero(stay)))
            cohort.rows = cohort.rows[stay]
        self._cohorts = [cohort for cohort in self._cohorts if len(cohort.rows)]

    def _index(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(rows).to(self.simulation.device)

    def _read_states(self, rows: NDArray[np.int64]) -> tuple[Float32, NDArray[np.bool_]]:
        if self._tracker is None:
            return np.zeros((len(rows), self.states.shape[1]), np.float32), np.zeros(len(rows), np.bool_)
        return self._tracker.read(rows, self.clips, self.steps[rows])


class WorldModelEnv(SingleEnv):
    """A world model's robot: a `WorldModelVectorEnv` of one copy."""

    vector: WorldModelVectorEnv

    def __init__(self, *, source: str, **options: Unpack[WorldModelOptions]) -> None:
        super().__init__(WorldModelVectorEnv(1, source=source, **options))

    def branch(self, copies: int, seeds: Sequence[int] | None = None) -> WorldModelVectorEnv:
        """`copies` futures of this environment, which stays as it is; see `WorldModelVectorEnv.branch`."""
        return self.vector.branch([0] * copies, seeds)
