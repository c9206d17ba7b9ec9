"""Building the bench: which episode, which stretch of it, what is done to it, and its label.

Every pair is drawn from (seed, number of the pair): the same spec and episodes give the same bench, byte for byte.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.labels import distance, label_degraded, label_generated, label_recorded
from roboalign.bench.pairs import Origin, Pair
from roboalign.bench.spec import BenchSpec
from roboalign.reward.rubric import Limits, calibrate
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus, EpisodeInfo, EpisodeWriter
from roboalign.types import Episode, Float32, Split, UInt8

SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Generate = Callable[[UInt8, Float32, NDArray[np.bool_], NDArray[np.int64]], UInt8]
"""A world model: first frames (B, H, W, 3), normalised actions (B, F, A), action masks (B, A) and seeds (B,) to the
predicted frames (B, F, H, W, 3)."""


def shares(total: int, weights: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], int]:
    """`total` divided in proportion to the weights, exactly, by largest remainder."""
    whole = sum(weights.values())
    exact = {key: total * weight / whole for key, weight in weights.items()}
    result = {key: int(value) for key, value in exact.items()}
    left = sorted(exact, key=lambda key: (result[key] - exact[key], key))[: total - sum(result.values())]
    return {key: count + (key in left) for key, count in result.items()}


def is_success(info: EpisodeInfo) -> bool:
    """Whether an episode has full marks by construction: an expert's success, or a real robot's recording."""
    return info.policy == "unknown" or (info.policy == "expert" and bool(info.success))


def recorded_states(corpus: Corpus) -> dict[str, Float32 | None]:
    """The states (T, 14) of each episode by id; None where the source has none."""
    return {
        info.id: None if info.success is None else corpus.read(number).state for number, info in enumerate(corpus.infos)
    }


def all_limits(
    infos: Sequence[EpisodeInfo], states: Mapping[str, Float32 | None], spec: RewardSpec
) -> dict[str, Limits]:
    """The rubric's limits of every source whose training episodes have states."""
    recorded: dict[str, list[tuple[Float32, bool]]] = {}
    for info in infos:
        state = states[info.id]
        if info.split == "train" and state is not None:
            recorded.setdefault(info.source, []).append((state, is_success(info)))
    return {source: calibrate(values, spec.calibration) for source, values in recorded.items()}


@dataclass(frozen=True)
class Builder:
    """Draws and labels pairs of a corpus."""

    corpus: Corpus
    spec: BenchSpec
    reward: RewardSpec
    states: Mapping[str, Float32 | None]
    limits: Mapping[str, Limits]

    @cached_property
    def infos(self) -> tuple[EpisodeInfo, ...]:
        """What is known of each episode."""
        return self.corpus.infos

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each episode by id."""
        return {info.id: number for number, info in enumerate(self.infos)}

    @cached_property
    def instructions(self) -> dict[str, frozenset[tuple[str, str]]]:
        """The (source, task) pairs that each instruction is given for."""
        found: dict[str, set[tuple[str, str]]] = {}
        for info in self.infos:
            found.setdefault(info.instruction, set()).add((info.source, info.task))
        return {text: frozenset(tasks) for text, tasks in found.items()}

    @cached_property
    def _neighbours(self) -> dict[tuple[str, Split], list[EpisodeInfo]]:
        """The episodes of each source and split."""
        found: dict[tuple[str, Split], list[EpisodeInfo]] = {}
        for info in self.infos:
            found.setdefault((info.source, info.split), []).append(info)
        return found

    def _swaps(self, info: EpisodeInfo) -> list[str]:
        """Instructions that nobody gives for an episode's task; of the same robot, where it has such."""
        foreign = [text for text, given in self.instructions.items() if all(task != info.task for _, task in given)]
        own = [text for text in foreign if any(source == info.source for source, _ in self.instructions[text])]
        return sorted(own or foreign)

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

    def plan(self, available: Sequence[str]) -> Iterator[Pair]:
        """The recipes of all pairs, without scores; of generated clips only where a model is `available`."""
        wanted = self.spec.splits.model_dump()
        sizes = shares(self.spec.pairs, {(split, ""): wanted[split] for split in SPLITS})
        number = 0
        for split in SPLITS:
            origins: dict[Origin, float] = self.spec.origins.model_dump()  # type: ignore[assignment]
            if not available:
                origins["generated"] = 0.0
            cells: dict[tuple[str, str], tuple[Origin, list[int]]] = {}
            for source in self.corpus.sources:
                for origin, share in origins.items():
                    episodes = self.cell(split, source, origin)
                    if episodes and share > 0:
                        cells[source, origin] = (origin, episodes)
            if not cells:
                continue
            counts = shares(sizes[split, ""], {key: origins[origin] for key, (origin, _) in cells.items()})
            for key, (origin, episodes) in cells.items():
                for place in range(counts[key]):
                    rng = np.random.default_rng((self.spec.seed, number))
                    yield self._draw(split, origin, episodes, place, rng, available)
                    number += 1

    def _draw(
        self,
        split: Split,
        origin: Origin,
        episodes: list[int],
        place: int,
        rng: np.random.Generator,
        available: Sequence[str],
    ) -> Pair:
        if origin == "degraded":
            successes = [number for number in episodes if is_success(self.infos[number])]
            failures = [number for number in episodes if not is_success(self.infos[number])]
            chosen = successes if rng.random() < self.spec.spoilt_successes else failures
            episode = int(rng.choice(chosen or episodes))
        else:
            episode = episodes[place % len(episodes)]  # each in turn
        info = self.infos[episode]
        start, stop = self._stretch(info, origin, rng)
        pair = Pair(
            episode=info.id, source=info.source, split=split, start=start, stop=stop, instruction=info.instruction,
            origin=origin, degradation="", severity=0.0, seed=int(rng.integers(2**31)), other="", generated=-1,
            model="", provenance="rubric", scores=(),
        )  # fmt: skip
        if origin == "generated":
            return replace(pair, model=available[place % len(available)])
        return self._degrade(pair, info, rng) if origin == "degraded" else pair

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
            return info.length - length, info.length  # the success has to be in the picture
        start = info.length - length if rng.random() < 0.5 else int(rng.integers(info.length - length + 1))
        return start, start + length

    def _degrade(self, pair: Pair, info: EpisodeInfo, rng: np.random.Generator) -> Pair:
        held_out = self.spec.held_out if pair.split != "test" else ()
        swaps = self._swaps(info)
        others = [
            other.id
            for other in self._neighbours[info.source, info.split]
            if other.scene != info.scene and other.length >= pair.stop - pair.start
        ]
        choices = [
            degradation
            for degradation in self.spec.degradations
            if degradation.kind not in held_out
            and (degradation.kind != "swapped_instruction" or swaps)
            and (degradation.kind != "splice" or others)
        ]
        degradation = choices[int(rng.integers(len(choices)))]
        severity = round(float(rng.uniform(degradation.mildest, degradation.worst)), 4)
        pair = replace(pair, degradation=degradation.kind, severity=severity)
        if degradation.kind == "swapped_instruction":
            return replace(pair, instruction=swaps[int(rng.integers(len(swaps)))])
        if degradation.kind == "splice":
            return replace(pair, other=others[int(rng.integers(len(others)))])
        return pair

    def label(self, pair: Pair, far: float = 0.0) -> Pair:
        """The pair with scores and their provenance; `far` is a generated clip's distance from the true future."""
        state = self._state(pair.episode, pair.start, pair.stop)
        limits = self.limits.get(pair.source)
        if pair.origin == "generated":
            scores, provenance = label_generated(self.reward, self.spec.generated, far, state, limits)
        elif pair.origin == "degraded":
            spec = next(d for d in self.spec.degradations if d.kind == pair.degradation)
            other = self._state(pair.other, 0, None) if pair.other else None
            scores, provenance = label_degraded(self.reward, spec, pair.severity, pair.seed, state, limits, other)
        else:
            scores, provenance = label_recorded(self.reward, state, limits)
        return replace(pair, scores=tuple(float(f"{score:.6g}") for score in scores), provenance=provenance)

    def _state(self, episode: str, start: int, stop: int | None) -> Float32 | None:
        state = self.states[episode]
        return None if state is None else state[start:stop]


def generate(
    builder: Builder, recipes: Sequence[Pair], models: Mapping[str, Generate], folder: Path, fps: float
) -> list[Pair]:
    """Make the clips of generated pairs, write them to the store `folder`, and label them; in the order given."""
    batch, corpus = builder.spec.generated.batch, builder.corpus
    made: dict[int, tuple[Pair, Episode]] = {}
    for model, run in models.items():
        rows = [row for row, pair in enumerate(recipes) if pair.model == model]
        for first in range(0, len(rows), batch):
            group = rows[first : first + batch]
            numbers = [builder.numbers[recipes[row].episode] for row in group]
            spans = [slice(recipes[row].start, recipes[row].stop) for row in group]
            truths = [corpus.frames(number, span.start, span.stop) for number, span in zip(numbers, spans, strict=True)]
            actions = [corpus.actions(number)[span] for number, span in zip(numbers, spans, strict=True)]
            futures = run(
                np.stack([truth[0] for truth in truths]),
                np.stack([action[:-1] for action in actions]),
                np.stack([corpus.action_mask(number) for number in numbers]),
                np.array([recipes[row].seed for row in group]),
            )
            for row, number, truth, action, future in zip(group, numbers, truths, actions, futures, strict=True):
                clip = np.concatenate([truth[:1], future])
                pair = replace(recipes[row], generated=row)
                made[row] = (builder.label(pair, distance(clip, truth, builder.spec.generated.floor)),
                             _episode(pair, builder.infos[number], clip, action))  # fmt: skip
    if made:
        with EpisodeWriter(folder, fps=fps) as writer:
            for row in range(len(recipes)):
                writer.add(made[row][1])
    return [made[row][0] for row in range(len(recipes))]


def _episode(pair: Pair, info: EpisodeInfo, clip: UInt8, actions: Float32) -> Episode:
    """A generated clip as an episode; its actions are the normalised ones."""
    return Episode(
        id=f"{pair.episode}/{pair.start}/{pair.model}/{pair.generated}",
        source=pair.source,
        task=info.task,
        instruction=pair.instruction,
        policy=info.policy,
        scene=info.scene,
        split=pair.split,
        frames=clip,
        actions=actions,
    )


def build(builder: Builder, models: Mapping[str, Generate], folder: Path, fps: float) -> list[Pair]:
    """All pairs, labelled; the generated clips are written to the store `folder`."""
    recipes = list(builder.plan([name for name in builder.spec.generated.models if name in models]))
    generated = iter(generate(builder, [pair for pair in recipes if pair.origin == "generated"], models, folder, fps))
    return [next(generated) if pair.origin == "generated" else builder.label(pair) for pair in recipes]
