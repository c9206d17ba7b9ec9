"""Drawing recipes: which episode, which stretch of it, and what is done to it.

Every draw comes from (seed, split, source, origin, degradation, number): the same spec and episodes give the same
recipes, and another source or more pairs leave those of the others as they were.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.degradations import moves, visible_change
from roboalign.bench.objects import object_masks
from roboalign.bench.pairs import Origin, Pair
from roboalign.bench.spec import BenchSpec, DegradationSpec, GroupsSpec
from roboalign.store import Corpus, EpisodeInfo
from roboalign.types import STATE_NAMES, Float32, Split

TRIES = 8
"""Draws of a clip whose object can be seen to move, before giving up."""

SUCCESS = STATE_NAMES.index("success")

FOUND = 0.6
"""Share of the frames to be changed in which the object has to be found."""


def is_success(info: EpisodeInfo) -> bool:
    """Whether an episode has the maximum score by construction: an expert's success, or a real robot's recording."""
    return info.policy == "unknown" or (info.policy == "expert" and bool(info.success))


def generator(*key: object) -> np.random.Generator:
    """The random generator of a key."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


@dataclass(frozen=True)
class Recipes:
    """Draws recipes of pairs from a corpus; `states` (T, 14) and `keypoints` (T, 6) of each episode by id, None where
    it has none."""

    corpus: Corpus
    spec: BenchSpec
    states: Mapping[str, Float32 | None]
    keypoints: Mapping[str, Float32 | None]

    @cached_property
    def infos(self) -> tuple[EpisodeInfo, ...]:
        """What is known of each episode."""
        return self.corpus.infos

    @cached_property
    def _instructions(self) -> dict[str, frozenset[tuple[str, str]]]:
        """The (source, task) pairs that each instruction is given for."""
        found: dict[str, set[tuple[str, str]]] = {}
        for info in self.infos:
            found.setdefault(info.instruction, set()).add((info.source, info.task))
        return {text: frozenset(tasks) for text, tasks in found.items()}

    @cached_property
    def _swaps(self) -> dict[tuple[str, str], list[str]]:
        """Instructions that nobody gives for a source's task; of the same robot, where it has such."""
        result: dict[tuple[str, str], list[str]] = {}
        for source, task in dict.fromkeys((info.source, info.task) for info in self.infos):
            foreign = [t for t, given in self._instructions.items() if all(name != task for _, name in given)]
            own = [t for t in foreign if any(name == source for name, _ in self._instructions[t])]
            result[source, task] = sorted(own or foreign)
        return result

    @cached_property
    def _neighbours(self) -> dict[tuple[str, Split], list[EpisodeInfo]]:
        """The episodes of each source and split."""
        found: dict[tuple[str, Split], list[EpisodeInfo]] = {}
        for info in self.infos:
            found.setdefault((info.source, info.split), []).append(info)
        return found

    def cell(self, split: Split, source: str, origin: Origin) -> list[int]:
        """The episodes that pairs of a split, source and origin are made of."""
        frames = self.spec.generated.frames + 1 if origin == "generated" else self.spec.shortest
        return [
            number
            for number, info in enumerate(self.infos)
            if (info.split, info.source) == (split, source)
            and info.length >= frames
            and (origin in ("degraded", "generated") or is_success(info) == (origin == "real"))
        ]

    def degradations(self, split: Split, episodes: Sequence[int]) -> list[DegradationSpec]:
        """The degradations that some of the episodes can have, and that the split may have."""
        held_out = self.spec.held_out if split != "test" else ()
        infos = [self.infos[number] for number in episodes]
        return [
            degradation
            for degradation in self.spec.degradations
            if degradation.kind not in held_out
            and any(self._applies(degradation, info, 0, self.spec.shortest) for info in infos)
        ]

    def _applies(self, degradation: DegradationSpec, info: EpisodeInfo, start: int, stop: int) -> bool:
        match degradation.kind:
            case "swapped_instruction":
                return bool(self._swaps[info.source, info.task])
            case "splice" | "swapped_actions":
                return bool(self._others(degradation, info, start, stop))
            case "object_removed" | "object_teleported":
                return self.keypoints[info.id] is not None
            case _:
                return True

    def _others(self, degradation: DegradationSpec, info: EpisodeInfo, start: int, stop: int) -> list[str]:
        """The episodes that a splice can go on with, or, of the same task, whose actions can be swapped in."""
        splice = degradation.kind == "splice"
        return [
            other.id
            for other in self._neighbours[info.source, info.split]
            if other.scene != info.scene
            and other.length >= (stop - start if splice else stop)
            and (splice or other.task == info.task)
        ]

    def draw(self, split: Split, source: str, origin: Origin, episodes: Sequence[int], place: int) -> Pair:
        """Recipe number `place` of a recorded or generated clip; the episodes take turns."""
        info = self.infos[episodes[place % len(episodes)]]
        rng = generator(self.spec.seed, split, source, origin, place)
        return self._recipe(info, origin, rng)

    def draw_degraded(
        self, split: Split, source: str, degradation: DegradationSpec, episodes: Sequence[int], place: int
    ) -> Pair | None:
        """Recipe number `place` of a spoilt clip; None where no clip was found that the degradation applies to."""
        successes = [number for number in episodes if is_success(self.infos[number])]
        failures = [number for number in episodes if not is_success(self.infos[number])]
        for attempt in range(TRIES):
            rng = generator(self.spec.seed, split, source, degradation.kind, place, attempt)
            chosen = successes if rng.random() < self.spec.spoilt_successes else failures
            info = self.infos[int(rng.choice(chosen or list(episodes)))]
            pair = self._recipe(info, "degraded", rng)
            if self._applies(degradation, info, pair.start, pair.stop):
                pair = self._degrade(pair, info, degradation, rng)
                if not moves(degradation.kind) or self._visible(pair):
                    return pair
        return None

    def draw_group(self, groups: GroupsSpec, source: str, episodes: Sequence[int], place: int) -> list[Pair]:
        """Recipes of the rollouts of group number `place` of a source; the episodes take turns."""
        info = self.infos[episodes[place % len(episodes)]]
        rng = generator(self.spec.seed, groups.model_dump_json(), source, place)
        start = int(rng.integers(info.length - groups.frames))
        name = f"{info.id}/{start}/{groups.frames}"
        rollouts = []
        for row in range(groups.size):
            model = groups.models[row % len(groups.models)]
            sampling = "greedy" if row < groups.greedy else "sampled"
            pair = replace(
                self._recipe(info, "group", rng),
                start=start,
                stop=start + groups.frames + 1,
                model=f"{model}.{groups.decoding.kind}.{sampling}",
                group=name,
            )
            rollouts.append(pair)
        return rollouts

    def _recipe(self, info: EpisodeInfo, origin: Origin, rng: np.random.Generator) -> Pair:
        start, stop = self._stretch(info, origin, rng)
        return Pair(
            id="", episode=info.id, source=info.source, split=info.split, start=start, stop=stop,
            instruction=info.instruction, origin=origin, degradation="", severity=0.0, seed=int(rng.integers(2**31)),
            other="", generated=-1, model="", group="", judged=True, provenance="rubric", scores=(), faithful=(),
        )  # fmt: skip

    def _stretch(self, info: EpisodeInfo, origin: Origin, rng: np.random.Generator) -> tuple[int, int]:
        """The first frame and one past the last one."""
        spec = self.spec
        if origin == "generated":
            frames = spec.generated.frames + 1
            start = 0 if rng.random() < spec.whole else int(rng.integers(info.length - frames + 1))
            return start, start + frames
        longest = min(spec.longest, info.length)
        length = longest if rng.random() < spec.whole else int(rng.integers(spec.shortest, longest + 1))
        if is_success(info) and origin == "real":
            stop = self._ending(info, length, rng)
            return stop - length, stop
        start = info.length - length if rng.random() < 0.5 else int(rng.integers(info.length - length + 1))
        return start, start + length

    def _ending(self, info: EpisodeInfo, length: int, rng: np.random.Generator) -> int:
        """One past the last frame of a clip of a success, which has to be in the picture."""
        state = self.states[info.id]
        if state is None or rng.random() < self.spec.whole:
            return info.length
        stops = np.flatnonzero(state[:, SUCCESS] > 0.5) + 1
        return int(rng.choice(stops[stops >= length])) if (stops >= length).any() else info.length

    def _degrade(self, pair: Pair, info: EpisodeInfo, degradation: DegradationSpec, rng: np.random.Generator) -> Pair:
        severity = round(float(rng.uniform(degradation.mildest, degradation.worst)), 4)
        pair = replace(pair, degradation=degradation.kind, severity=severity)
        match degradation.kind:
            case "swapped_instruction":
                swaps = self._swaps[info.source, info.task]
                return replace(pair, instruction=swaps[int(rng.integers(len(swaps)))])
            case "splice" | "swapped_actions":
                hidden = degradation.kind == "swapped_actions" and self.spec.hidden_labels == "apart"
                others = self._others(degradation, info, pair.start, pair.stop)
                return replace(pair, other=others[int(rng.integers(len(others)))], judged=not hidden)
            case _:
                return pair

    def _visible(self, pair: Pair) -> bool:
        """Whether enough of the object is found in the frames in which it is to be moved."""
        points = self.keypoints[pair.episode]
        if points is None or pair.degradation == "" or not moves(pair.degradation):
            return False
        clip = slice(pair.start, pair.stop)
        sizes = self._object_sizes(pair.episode)[clip]
        return visible_change(pair.degradation, sizes, points[clip], pair.severity, pair.seed) >= FOUND

    def _object_sizes(self, episode: str) -> NDArray[np.float64]:
        """The share of the picture that the object covers in each frame of an episode, (T,)."""
        if episode not in self._sizes:
            points = self.keypoints[episode]
            assert points is not None
            masks = object_masks(self.corpus.frames(self.numbers[episode]), points)
            self._sizes[episode] = masks.mean((1, 2))
        return self._sizes[episode]

    @cached_property
    def _sizes(self) -> dict[str, NDArray[np.float64]]:
        """What `_object_sizes` found: an episode is spoilt many times."""
        return {}

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each episode by id."""
        return {info.id: number for number, info in enumerate(self.infos)}
