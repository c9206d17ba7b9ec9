"""Recipes: random choices of an episode, a range of its frames, and a degradation.

Each recipe is drawn from its own generator, seeded by (seed, split, source, origin or degradation, place): the same
spec and episodes give the same recipes, and another source or more pairs do not change those of the others.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.degradations import moves_object, object_masks, visible_share
from roboalign.bench.pairs import Origin, Pair
from roboalign.bench.spec import BenchSpec, DegradationSpec, GroupsSpec
from roboalign.store import Corpus, EpisodeInfo
from roboalign.types import STATE_NAMES, Float32, Split

ATTEMPTS = 8
"""Attempts to draw a clip in which the object is visible enough to be moved."""

MIN_VISIBLE_SHARE = 0.6
"""Share of the frames to be changed in which the object must be visible."""

SUCCESS = STATE_NAMES.index("success")


@dataclass(frozen=True)
class RecipeSampler:
    """Draws recipes of pairs from a corpus."""

    corpus: Corpus
    spec: BenchSpec
    states: Mapping[str, Float32 | None]
    """States (T, 14) of each episode by id; None if it has none."""
    keypoints: Mapping[str, Float32 | None]
    """Keypoints (T, 6) of each episode by id; None if it has none."""

    def sample(self, split: Split, source: str, origin: Origin, episodes: Sequence[int], place: int) -> Pair:
        """Recipe number `place` of a recorded or generated clip; recipes cycle through the episodes."""
        info = self.corpus.infos[episodes[place % len(episodes)]]
        return self._recipe(info, origin, make_rng(self.spec.seed, split, source, origin, place))

    def sample_degraded(
        self, split: Split, source: str, degradation: DegradationSpec, episodes: Sequence[int], place: int
    ) -> Pair | None:
        """Recipe number `place` of a degraded clip; None if the degradation applied to no drawn clip."""
        infos = [self.corpus.infos[number] for number in episodes]
        successes = [number for number, info in zip(episodes, infos, strict=True) if is_success(info)]
        failures = [number for number, info in zip(episodes, infos, strict=True) if not is_success(info)]
        for attempt in range(ATTEMPTS):
            rng = make_rng(self.spec.seed, split, source, degradation.kind, place, attempt)
            candidates = successes if rng.random() < self.spec.degraded_success_share else failures
            info = self.corpus.infos[int(rng.choice(candidates or list(episodes)))]
            pair = self._recipe(info, "degraded", rng)
            if self._applies(degradation, info, pair.start, pair.stop):
                pair = self._degrade(pair, info, degradation, rng)
                if not moves_object(degradation.kind) or self._visible(pair):
                    return pair
        return None

    def sample_group(self, groups: GroupsSpec, source: str, episodes: Sequence[int], place: int) -> list[Pair]:
        """Recipes of the rollouts of group number `place` of a source; groups cycle through the episodes."""
        info = self.corpus.infos[episodes[place % len(episodes)]]
        rng = make_rng(self.spec.seed, groups.model_dump_json(), source, place)
        start = int(rng.integers(info.length - groups.frames))
        rollouts = []
        for row in range(groups.size):
            model = groups.models[row % len(groups.models)]
            sampling = "greedy" if row < groups.greedy else "sampled"
            pair = replace(
                self._recipe(info, "group", rng),
                start=start,
                stop=start + groups.frames + 1,
                model=f"{model}.{groups.decoding.kind}.{sampling}",
                group=f"{info.id}/{start}/{groups.frames}",
            )
            rollouts.append(pair)
        return rollouts

    def eligible_episodes(self, split: Split, source: str, origin: Origin) -> list[int]:
        """The episodes from which pairs of a split, source and origin can be made."""
        frames = self.spec.generated.frames + 1 if origin == "generated" else self.spec.min_frames
        return [
            number
            for number, info in enumerate(self.corpus.infos)
            if (info.split, info.source) == (split, source)
            and info.length >= frames
            and (origin in ("degraded", "generated") or is_success(info) == (origin == "real"))
        ]

    def eligible_degradations(self, split: Split, episodes: Sequence[int]) -> list[DegradationSpec]:
        """The degradations that apply to some of the episodes and are not held out from the split."""
        held_out = self.spec.held_out if split != "test" else ()
        infos = [self.corpus.infos[number] for number in episodes]
        return [
            degradation
            for degradation in self.spec.degradations
            if degradation.kind not in held_out
            and any(self._applies(degradation, info, 0, self.spec.min_frames) for info in infos)
        ]

    @cached_property
    def _other_instructions(self) -> dict[tuple[str, str], list[str]]:
        """By (source, task), the instructions of other tasks: of the same source if it has any."""
        tasks: dict[str, set[tuple[str, str]]] = {}
        for info in self.corpus.infos:
            tasks.setdefault(info.instruction, set()).add((info.source, info.task))
        result: dict[tuple[str, str], list[str]] = {}
        for source, task in dict.fromkeys((info.source, info.task) for info in self.corpus.infos):
            foreign = [text for text, given in tasks.items() if all(name != task for _, name in given)]
            same_source = [text for text in foreign if any(name == source for name, _ in tasks[text])]
            result[source, task] = sorted(same_source or foreign)
        return result

    @cached_property
    def _episodes(self) -> dict[tuple[str, Split], list[EpisodeInfo]]:
        """The episodes of each source and split."""
        result: dict[tuple[str, Split], list[EpisodeInfo]] = {}
        for info in self.corpus.infos:
            result.setdefault((info.source, info.split), []).append(info)
        return result

    def _applies(self, degradation: DegradationSpec, info: EpisodeInfo, start: int, stop: int) -> bool:
        match degradation.kind:
            case "swapped_instruction":
                return bool(self._other_instructions[info.source, info.task])
            case "splice" | "swapped_actions":
                return bool(self._partners(degradation, info, start, stop))
            case "object_removed" | "object_teleported":
                return self.keypoints[info.id] is not None
            case _:
                return True

    def _partners(self, degradation: DegradationSpec, info: EpisodeInfo, start: int, stop: int) -> list[str]:
        """The episodes of other scenes with which a splice can continue, or whose actions can be swapped in (of the
        same task)."""
        splice = degradation.kind == "splice"
        return [
            other.id
            for other in self._episodes[info.source, info.split]
            if other.scene != info.scene
            and other.length >= (stop - start if splice else stop)
            and (splice or other.task == info.task)
        ]

    def _recipe(self, info: EpisodeInfo, origin: Origin, rng: np.random.Generator) -> Pair:
        start, stop = self._frame_range(info, origin, rng)
        return Pair(
            id="", episode=info.id, source=info.source, split=info.split, start=start, stop=stop,
            instruction=info.instruction, origin=origin, degradation="", severity=0.0, seed=int(rng.integers(2**31)),
            other="", generated=-1, model="", group="", judged=True, provenance="rubric", scores=(), faithful=(),
        )  # fmt: skip

    def _frame_range(self, info: EpisodeInfo, origin: Origin, rng: np.random.Generator) -> tuple[int, int]:
        """The first frame of a clip, and the index after the last one."""
        spec = self.spec
        if origin == "generated":
            frames = spec.generated.frames + 1
            start = 0 if rng.random() < spec.full_length_share else int(rng.integers(info.length - frames + 1))
            return start, start + frames
        longest = min(spec.max_frames, info.length)
        full = rng.random() < spec.full_length_share
        length = longest if full else int(rng.integers(spec.min_frames, longest + 1))
        if is_success(info) and origin == "real":
            stop = self._stop_in_success(info, length, rng)
            return stop - length, stop
        start = info.length - length if rng.random() < 0.5 else int(rng.integers(info.length - length + 1))
        return start, start + length

    def _stop_in_success(self, info: EpisodeInfo, length: int, rng: np.random.Generator) -> int:
        """The index after the last frame of a clip of a success, which must show it."""
        state = self.states[info.id]
        if state is None or rng.random() < self.spec.full_length_share:
            return info.length
        stops = np.flatnonzero(state[:, SUCCESS] > 0.5) + 1
        return int(rng.choice(stops[stops >= length])) if (stops >= length).any() else info.length

    def _degrade(self, pair: Pair, info: EpisodeInfo, degradation: DegradationSpec, rng: np.random.Generator) -> Pair:
        severity = round(float(rng.uniform(degradation.min_severity, degradation.max_severity)), 4)
        pair = replace(pair, degradation=degradation.kind, severity=severity)
        match degradation.kind:
            case "swapped_instruction":
                instructions = self._other_instructions[info.source, info.task]
                return replace(pair, instruction=instructions[int(rng.integers(len(instructions)))])
            case "splice" | "swapped_actions":
                hidden = degradation.kind == "swapped_actions" and self.spec.hidden_labels == "apart"
                partners = self._partners(degradation, info, pair.start, pair.stop)
                return replace(pair, other=partners[int(rng.integers(len(partners)))], judged=not hidden)
            case _:
                return pair

    def _visible(self, pair: Pair) -> bool:
        """Whether the object is visible in enough of the frames in which it is to be moved."""
        points = self.keypoints[pair.episode]
        if points is None or pair.degradation == "" or not moves_object(pair.degradation):
            return False
        clip = slice(pair.start, pair.stop)
        areas = self._object_areas(pair.episode, points)[clip]
        return visible_share(pair.degradation, areas, points[clip], pair.severity, pair.seed) >= MIN_VISIBLE_SHARE

    def _object_areas(self, episode: str, keypoints: Float32) -> NDArray[np.float64]:
        """The fraction of the image that the object covers in each frame of an episode, (T,)."""
        if episode not in self._areas:
            frames = self.corpus.frames(self._numbers[episode])
            self._areas[episode] = object_masks(frames, keypoints).mean((1, 2))
        return self._areas[episode]

    @cached_property
    def _areas(self) -> dict[str, NDArray[np.float64]]:
        """Cache of `_object_areas`: an episode is degraded many times."""
        return {}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {info.id: number for number, info in enumerate(self.corpus.infos)}


def is_success(info: EpisodeInfo) -> bool:
    """Whether an episode has the maximum score by construction: a success of an expert, or a real robot's recording."""
    return info.policy == "unknown" or (info.policy == "expert" and bool(info.success))


def make_rng(*key: object) -> np.random.Generator:
    """A random generator that is seeded by the hash of a key."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
