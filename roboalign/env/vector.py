"""Base of the vector environments: episodes, clips, success, rewards, and copies that end at different times.

A copy that ends, by success or at the horizon, keeps its last observation, with reward 0, until it is reset by
`reset(options={"reset_mask": mask})`; its actions are ignored. This is Gymnasium's `AutoresetMode.DISABLED`.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypedDict, get_args

import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from roboalign.env.actions import ActionScale
from roboalign.env.episodes import InitialScene, SourceEpisodes, read_options
from roboalign.env.errors import EnvError
from roboalign.env.scoring import ClipScorer
from roboalign.io import find_output
from roboalign.reward.spec import ScoreVariant
from roboalign.rollout.spec import RolloutSpec
from roboalign.run import read_section
from roboalign.types import STATE_NAMES, Float32, UInt8

Observation = dict[str, Any]
"""`image`, uint8 (H, W, 3), and `instruction`, a text; of N copies (N, H, W, 3) and a tuple of N texts."""

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.DISABLED}

_SUCCESS = STATE_NAMES.index("success")


class EpisodeOptions(TypedDict, total=False):
    """Arguments of all environments."""

    experiment: str | Path
    """Folder of a finished experiment ("." by default)."""
    horizon: int | None
    """Steps after which an episode is truncated; None for the experiment's `rollout.horizon`."""
    variant: ScoreVariant
    """Which scores `student` and `judge` give, `faithful` (the default) or `absolute`."""
    terminate_on_success: bool
    """Whether an episode ends at success (the default)."""
    normalize_actions: bool
    """Whether actions are in [-1, 1], which is the measured range, instead of in the source's units."""
    render_mode: str | None
    """`rgb_array` or None."""
    device: str
    """Device of the models, `cpu` or `cuda`."""


class EpisodeVectorEnv(VectorEnv[Observation, Any, NDArray[Any]], ABC):
    """N copies of one source's robot."""

    metadata = METADATA

    def __init__(
        self,
        num_envs: int,
        episodes: SourceEpisodes,
        scale: ActionScale,
        reward: str,
        scorer: ClipScorer | None,
        options: EpisodeOptions,
    ) -> None:
        self.episodes, self.scale, self.reward, self.scorer = episodes, scale, reward, scorer
        self.horizon = read_horizon(options)
        self.terminate_on_success = options.get("terminate_on_success", True)
        self.render_mode = options.get("render_mode")
        if self.render_mode not in (None, "rgb_array"):
            raise EnvError(f"render_mode must be None or rgb_array, not {self.render_mode!r}")
        variant = options.get("variant", "faithful")
        if variant not in get_args(ScoreVariant):
            raise EnvError(f"variant must be one of {', '.join(get_args(ScoreVariant))}, not {variant!r}")
        if not isinstance(num_envs, int) or num_envs < 1:
            raise EnvError(f"num_envs must be a whole number above 0, not {num_envs!r}")
        self.metadata = {**type(self).metadata, "render_fps": episodes.fps}
        image = Box(0, 255, episodes.shape, np.uint8)
        self.single_observation_space = Dict({"image": image, "instruction": episodes.instructions})
        self.single_action_space = scale.space
        self.scenes: list[InitialScene | None] = [None] * num_envs
        """The initial scene of each copy; None before its first reset."""
        self.steps = np.zeros(num_envs, np.int64)
        """Steps of each copy since its reset."""
        self.terminated, self.truncated = np.zeros(num_envs, np.bool_), np.zeros(num_envs, np.bool_)
        self.clips = np.zeros((num_envs, self.horizon + 1, *episodes.shape), np.uint8)
        """The frames of each copy so far, the first one included."""
        self._actions = np.zeros((num_envs, self.horizon, scale.width), np.float32)
        """Normalised actions."""
        self.states = np.zeros((num_envs, len(STATE_NAMES)), np.float32)
        """The present state of each copy; contact and success are probabilities if they are perceived."""
        self.states_known = np.zeros(num_envs, np.bool_)
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._set_size(num_envs)

    def _set_size(self, count: int) -> None:
        self.num_envs = count
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)

    @property
    def instructions(self) -> tuple[str, ...]:
        """The instruction of each copy."""
        return tuple("" if scene is None else scene.instruction for scene in self.scenes)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset all copies, or those of `options["reset_mask"]`.

        Args:
            seed: The seed of the first copy, that of copy i being `seed + i`; or one for each copy. A copy's seed is
                that of its sampling, and draws its episode. None continues each copy's random stream.
            options: `episodes`, N ids of recorded episodes (None draws a held-out one); or `images`, uint8
                (N, H, W, 3), and `instructions`, N texts, and optionally `tasks`, N names; `reset_mask`, (N,) of bool.

        Returns:
            Observations, and infos: `success` and `states` as in `step`, `episode` and `task` of each copy.

        Raises:
            EnvError: An argument is not valid; nothing was reset.
        """
        read = read_options(options, self.num_envs, self.episodes)
        seeds = read_seeds(seed, self.num_envs)
        super().reset(seed=seed if isinstance(seed, int) else None)
        rows = np.flatnonzero(read.mask)
        rngs, scenes, sampling = [], [], []
        for row in rows:
            rng, scene, given = self._rngs[row], read.scenes[row], seeds[row]
            if given is None and rng is None:
                given = int(self.np_random.integers(2**63 - 1))
            rng = copy.deepcopy(rng) if given is None else seeding.np_random(given)[0]
            assert rng is not None
            sampling.append(int(rng.integers(2**63 - 1)) if given is None else given)
            scenes.append(self.episodes.draw(rng) if scene is None else scene)
            rngs.append(rng)
        frames = self._begin(rows, scenes, np.array(sampling, np.int64))
        for row, rng, scene in zip(rows, rngs, scenes, strict=True):
            self._rngs[row], self.scenes[row] = rng, scene
        self.steps[rows], self.terminated[rows], self.truncated[rows] = 0, False, False
        self.clips[rows, 0] = frames
        self.states[rows], self.states_known[rows] = self._read_states(rows)
        names = {
            key: np.array([getattr(scene, key, None) for scene in self.scenes], object) for key in ("episode", "task")
        }
        return self._observe(), self._infos() | names

    def step(
        self, actions: Any
    ) -> tuple[Observation, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Apply actions (N, A); copies that have ended stay as they are.

        Actions beyond the measured range are clipped to it, as the world model and the rollout stage clip recorded
        ones, in the robots alike.

        Returns:
            Observations; rewards (N,); terminated (N,), by success; truncated (N,), at the horizon; infos: `success`
            (N,) and `states` (N, 14), columns STATE_NAMES, with the masks `_success` and `_states` of the copies for
            which they are known.

        Raises:
            EnvError: The actions are not valid, or a copy was never reset; nothing was done.
        """
        if any(scene is None for scene in self.scenes):
            raise EnvError("step was called before reset; call reset first")
        active = ~(self.terminated | self.truncated)
        values = self.scale.check(actions, (self.num_envs, self.scale.width), active)
        rewards, rows = np.zeros(self.num_envs), np.flatnonzero(active)
        if len(rows):
            frames = self._advance(rows, values[rows])
            self._actions[rows, self.steps[rows]] = self.scale.to_model(values[rows])
            self.steps[rows] += 1
            self.clips[rows, self.steps[rows]] = frames
            self.states[rows], self.states_known[rows] = self._read_states(rows)
            success = self._success(rows)
            self.terminated[rows] = success & self.terminate_on_success
            self.truncated[rows] = self.steps[rows] == self.horizon
            if self.scorer is None:
                rewards[rows] = success & (self.reward != "none")
            else:
                ended = rows[self.terminated[rows] | self.truncated[rows]]
                rewards[ended] = self.score(ended)
        return self._observe(), rewards, self.terminated.copy(), self.truncated.copy(), self._infos()

    def score(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """The reward of the clips so far of the copies `rows` (all by default) by the student or the judge, (R,).

        For planning: an episode that ended here would get it. Raises EnvError if `reward` is neither of them.
        """
        if self.scorer is None:
            raise EnvError(f"reward '{self.reward}' does not score clips; use student or judge")
        chosen = np.arange(self.num_envs) if rows is None else np.asarray(rows, np.int64)
        scores = np.zeros(len(chosen))
        for length in np.unique(self.steps[chosen]):
            places = np.flatnonzero(self.steps[chosen] == length)
            same = chosen[places]
            texts = [self.instructions[row] for row in same]
            scores[places] = self.scorer.score(self.clips[same, : length + 1], texts, self._actions[same, :length])
        return scores

    def render(self) -> tuple[UInt8, ...] | None:
        """The present frames, a tuple of N (H, W, 3); None if `render_mode` is None."""
        return None if self.render_mode is None else tuple(self._frames())

    def _copy_rows(self, rows: NDArray[np.int64]) -> Self:
        """A shallow copy of this environment with the copies `rows`."""
        new = copy.copy(self)
        new.scenes, new._rngs = [self.scenes[row] for row in rows], [copy.deepcopy(self._rngs[row]) for row in rows]
        for name in ("steps", "terminated", "truncated", "clips", "_actions", "states", "states_known"):
            setattr(new, name, getattr(self, name)[rows].copy())
        new._set_size(len(rows))
        return new

    def _frames(self) -> UInt8:
        """A copy of the present frames (N, H, W, 3)."""
        frames: UInt8 = self.clips[np.arange(self.num_envs), self.steps]
        return frames

    def _observe(self) -> Observation:
        return {"image": self._frames(), "instruction": self.instructions}

    def _success(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self.states_known[rows] & (self.states[rows, _SUCCESS] > 0.5)
        return result

    def _infos(self) -> dict[str, Any]:
        return {
            "success": self._success(np.arange(self.num_envs)),
            "_success": self.states_known.copy(),
            "states": self.states.copy(),
            "_states": self.states_known.copy(),
        }

    @abstractmethod
    def _begin(self, rows: NDArray[np.int64], scenes: Sequence[InitialScene], seeds: NDArray[np.int64]) -> UInt8:
        """Start the copies `rows` anew; their first frames (R, H, W, 3)."""

    @abstractmethod
    def _advance(self, rows: NDArray[np.int64], values: Float32) -> UInt8:
        """Apply checked actions (R, A) to the copies `rows`; their next frames (R, H, W, 3)."""

    @abstractmethod
    def _read_states(self, rows: NDArray[np.int64]) -> tuple[Float32, NDArray[np.bool_]]:
        """The present states (R, 14) of the copies `rows`, and for which of them they are known (R,)."""


def read_horizon(options: EpisodeOptions) -> int:
    """The horizon of the options, or the experiment's. Raises EnvError if it is not a number above 0."""
    horizon = options.get("horizon")
    if horizon is None:
        file = find_output(Path(options.get("experiment", ".")), "build/spec/rollout.yaml")
        spec: RolloutSpec = read_section(file, "rollout", RolloutSpec)
        return spec.horizon
    if not isinstance(horizon, int) or horizon < 1:
        raise EnvError(f"horizon must be a whole number above 0, not {horizon!r}")
    return horizon


def read_seeds(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    """The seed of each of `count` copies. Raises EnvError if it is not a number from 0 to 2^63 - 1."""
    if seed is None:
        return [None] * count
    seeds = [int(seed) + row for row in range(count)] if isinstance(seed, int | np.integer) else seed
    if not isinstance(seeds, list | tuple | np.ndarray) or len(seeds) != count:
        raise EnvError(f"{count} copies need one seed or a list of {count}, not {seed!r}")
    for each in seeds:
        if each is not None and not (isinstance(each, int | np.integer) and 0 <= each < 2**63):
            raise EnvError(f"a seed must be a whole number from 0 to 2^63 - 1, not {each!r}")
    return [None if each is None else int(each) for each in seeds]
