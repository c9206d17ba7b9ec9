"""Building the bench: plan the pairs, generate the rollouts among them, label all.

The plan says how many pairs of each split, source and origin there are, and which candidates fill the bins of the total
score most evenly. The same spec, episodes and models give the same bench, byte for byte.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.degradations import moves_object
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import BenchError, Origin, Pair, pair_id
from roboalign.bench.recipes import RecipeSampler, make_rng
from roboalign.probe.spec import ProbeName
from roboalign.store import EpisodeInfo, EpisodeWriter
from roboalign.types import Episode, Float32, Split, UInt8

SPLITS: tuple[Split, ...] = get_args(Split)

MAX_REDRAWS = 4
"""Draws for each clip wanted, before a clip is used twice."""

GenerateFn = Callable[[UInt8, Float32, NDArray[np.bool_], NDArray[np.int64]], UInt8]
"""A world model: first frames (B, H, W, 3), normalised actions (B, F, A), action masks (B, A) and seeds (B,) to the
predicted frames (B, F, H, W, 3)."""

Labellers = Mapping[ProbeName, PairLabeller]
"""The labeller by each state probe; they differ in the labels of generated clips. `judge` labels all other pairs."""


@dataclass(frozen=True, slots=True)
class GeneratedClip:
    """A generated clip."""

    pairs: dict[ProbeName, Pair]
    """The pair with its id and its label by each state probe."""
    frames: UInt8
    """(T, H, W, 3)."""


GenerateChunks = Callable[[Sequence[Sequence[Pair]]], Iterable[Sequence[GeneratedClip]]]
"""Runs `generate_chunk` on chunks of recipes, in order, perhaps in several processes."""


def build(
    labellers: Labellers,
    models: Mapping[str, GenerateFn],
    folder: Path,
    fps: float,
    progress: Callable[[int, int], None] | None = None,
    generate_chunks: GenerateChunks | None = None,
) -> dict[ProbeName, list[Pair]]:
    """All pairs with the labels by each state probe, in the same order.

    Args:
        labellers: The labeller by each state probe.
        models: World models by the names that `Pair.model` can have; without any, nothing is generated.
        folder: The episode store to which generated clips are written.
        fps: Frames per second of that store.
        progress: Is called with the numbers of clips that are generated and that will be.
        generate_chunks: By default, chunks are generated one after the other in this process.

    Raises BenchError if the corpus allows no pair.
    """
    planner = PairPlanner(labellers["judge"])
    spec = planner.labeller.spec
    plan = list(planner.plan_pairs([name for name in spec.generated.models if name in models]))
    plan += list(planner.plan_groups()) if models else []
    if not plan:
        raise BenchError(
            f"no pair can be made: no source has episodes of {spec.min_frames} frames"
            f"{' and recorded states' if spec.unlabelled == 'skip' else ''}; lower bench.min_frames or add a source"
        )
    recipes = [pair for pair in plan if pair.model]
    generated = generate_clips(labellers, models, recipes, folder, fps, progress, generate_chunks)
    result: dict[ProbeName, list[Pair]] = {}
    for name, pairs in generated.items():
        labelled = iter(pairs)
        result[name] = planner.labeller.apply_annotations([next(labelled) if p.model else p for p in plan])
    return result


@dataclass(frozen=True)
class PairPlanner:
    """Decides how many pairs of each kind there are, and which."""

    labeller: PairLabeller

    @cached_property
    def sampler(self) -> RecipeSampler:
        """The sampler of recipes."""
        return RecipeSampler(self.labeller.corpus, self.labeller.spec, self.labeller.states, self.labeller.keypoints)

    def plan_pairs(self, models: Sequence[str]) -> Iterator[Pair]:
        """All pairs outside groups: recorded and degraded pairs, labelled, and recipes of clips that the `models`
        generate in turn."""
        spec = self.labeller.spec
        shares = spec.splits.model_dump()
        sizes = apportion(spec.pairs, {(split, ""): shares[split] for split in SPLITS})
        for split in SPLITS:
            cells = self._cells(split, generated=bool(models))
            if not cells:
                continue
            counts = apportion(sizes[split, ""], {key: weight for key, (weight, _) in cells.items()})
            for source in self.labeller.sources:
                filled = np.zeros(spec.balance.score_bins, np.int64)
                for origin in ("real", "generated", "policy", "degraded"):
                    if (source, origin) in cells:
                        episodes, count = cells[source, origin][1], counts[source, origin]
                        yield from self._fill_cell(split, source, origin, episodes, count, filled, models)

    def plan_groups(self) -> Iterator[Pair]:
        """Recipes of all rollouts of groups."""
        spec, infos = self.labeller.spec, self.labeller.infos
        for groups in spec.groups:
            episodes = {
                source: [
                    number
                    for number, info in enumerate(infos)
                    if (info.source, info.split) == (source, groups.split) and info.length > groups.frames
                ]
                for source in self.labeller.sources
                if groups.split == "test" or source not in spec.held_out_sources
            }
            weights = {(source, ""): 1.0 for source, numbers in episodes.items() if numbers}
            for (source, _), count in (apportion(groups.prompts, weights) if weights else {}).items():
                for place in range(count):
                    yield from self.sampler.sample_group(groups, source, episodes[source], place)

    def _cells(self, split: Split, *, generated: bool) -> dict[tuple[str, str], tuple[float, list[int]]]:
        """Weight and eligible episodes of each (source, origin) that a split can have."""
        spec = self.labeller.spec
        origins: dict[Origin, float] = {
            origin: getattr(spec.origins, origin) for origin in get_args(Origin) if origin != "group"
        }
        result: dict[tuple[str, str], tuple[float, list[int]]] = {}
        for source in self.labeller.sources:
            if source in spec.held_out_sources and split != "test":
                continue
            size = 1.0
            if spec.balance.sources == "episodes":
                size = float(sum((info.source, info.split) == (source, split) for info in self.labeller.infos))
            for origin, share in origins.items():
                episodes = self.sampler.eligible_episodes(split, source, origin)
                if not episodes or share == 0 or (origin == "generated" and not generated):
                    continue
                if origin != "degraded" or self.sampler.eligible_degradations(split, episodes):
                    result[source, origin] = (share * size, episodes)
        return result

    def _fill_cell(
        self,
        split: Split,
        source: str,
        origin: Origin,
        episodes: list[int],
        count: int,
        filled: NDArray[np.int64],
        models: Sequence[str],
    ) -> Iterator[Pair]:
        """The pairs of one split, source and origin; `filled`, the pairs in each score bin, is updated."""

        def sample(place: int) -> Pair:
            return self.sampler.sample(split, source, origin, episodes, place)

        match origin:
            case "real":
                pairs = self._distinct(sample, count, count)
                choose_evenly(self._score_bins(pairs), filled, count)
                yield from pairs
            case "generated":
                for place in range(count):
                    yield replace(sample(place), model=models[place % len(models)])
            case "policy":
                pairs = self._distinct(sample, count, count * self.labeller.spec.balance.candidates)
                yield from (pairs[n] for n in choose_evenly(self._score_bins(pairs), filled, count))
            case "degraded":
                yield from self._fill_degraded(split, source, episodes, count, filled)

    def _fill_degraded(
        self, split: Split, source: str, episodes: list[int], count: int, filled: NDArray[np.int64]
    ) -> Iterator[Pair]:
        """Degraded pairs, each kind that applies equally often; later kinds make up for pairs that a kind lacks."""
        spec = self.labeller.spec
        kinds = self.sampler.eligible_degradations(split, episodes)
        # If there are fewer pairs than kinds, chance decides which kinds they have.
        order = make_rng(spec.seed, split, source, "kinds").permutation(len(kinds))
        # Kinds that may find no visible object come first, so that the others can make up for them.
        ordered = sorted((kinds[place] for place in order), key=lambda each: not moves_object(each.kind))
        for number, degradation in enumerate(ordered):
            quota = -(-count // (len(kinds) - number))
            recipes = (
                self.sampler.sample_degraded(split, source, degradation, episodes, place)
                for place in range(quota * spec.balance.candidates)
            )
            labelled = (self.labeller.label(pair) for pair in recipes if pair is not None)
            pairs = list({pair.id: pair for pair in labelled}.values())
            chosen = choose_evenly(self._score_bins(pairs), filled, quota)
            count -= len(chosen)
            yield from (pairs[n] for n in chosen)

    def _distinct(self, sample: Callable[[int], Pair], count: int, wanted: int) -> list[Pair]:
        """At least `count` labelled pairs, and `wanted` if there are as many different ones."""
        distinct: dict[str, Pair] = {}
        for place in range(MAX_REDRAWS * wanted):
            if len(distinct) == wanted:
                break
            pair = self.labeller.with_id(sample(place))
            distinct.setdefault(pair.id, pair)
        pairs = [self.labeller.label(pair) for pair in distinct.values()]
        return [pairs[n % len(pairs)] for n in range(max(count, len(pairs)))]

    def _score_bins(self, pairs: Sequence[Pair]) -> list[int]:
        """The bin of each pair's total score."""
        bins, max_total = self.labeller.spec.balance.score_bins, self.labeller.reward.max_total
        return [score_bin(sum(pair.scores), max_total, bins) for pair in pairs]


def apportion(total: int, weights: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], int]:
    """`total` divided in proportion to the weights, by largest remainder; the counts add up to `total`."""
    sum_of_weights = sum(weights.values())
    exact = {key: total * weight / sum_of_weights for key, weight in weights.items()}
    result = {key: int(value) for key, value in exact.items()}
    rounded_up = sorted(exact, key=lambda key: (result[key] - exact[key], key))[: total - sum(result.values())]
    return {key: count + (key in rounded_up) for key, count in result.items()}


def score_bin(score: float, max_score: float, bins: int) -> int:
    """The index of a score among `bins` bins of equal width from 0 to `max_score`."""
    return min(bins - 1, int(bins * score / max_score))


def choose_evenly(candidates: Sequence[int], filled: NDArray[np.int64], wanted: int) -> list[int]:
    """The indices of `wanted` candidates (of all, if there are fewer) that fill the bins most evenly, in order.

    `candidates` are bins, `filled` the number of pairs in each bin, which is updated. Candidates are taken one by one,
    each from the emptiest bin that still has one.
    """
    remaining: dict[int, list[int]] = {}
    for number in range(len(candidates) - 1, -1, -1):
        remaining.setdefault(candidates[number], []).append(number)
    chosen: list[int] = []
    while remaining and len(chosen) < wanted:
        emptiest = min(remaining, key=lambda each: (filled[each], each))
        chosen.append(remaining[emptiest].pop())
        filled[emptiest] += 1
        if not remaining[emptiest]:
            del remaining[emptiest]
    return sorted(chosen)


def generate_clips(
    labellers: Labellers,
    models: Mapping[str, GenerateFn],
    recipes: Sequence[Pair],
    folder: Path,
    fps: float,
    progress: Callable[[int, int], None] | None = None,
    generate_chunks: GenerateChunks | None = None,
) -> dict[ProbeName, list[Pair]]:
    """Generate the clips of recipes, write them to an episode store and label them; in the order of the recipes.

    The arguments are those of `build`. Only one chunk of clips is in memory at a time.
    """
    result: dict[ProbeName, list[Pair]] = {name: [] for name in labellers}
    if not recipes:
        return result
    labeller = labellers["judge"]
    chunks = list(_chunks(recipes, labeller.spec.generated.batch_size * len(labeller.spec.generated.models)))
    generated: Iterable[Sequence[GeneratedClip]]
    if generate_chunks is None:
        generated = (generate_chunk(labellers, models, chunk) for chunk in chunks)
    else:
        generated = generate_chunks(chunks)
    done = 0
    with EpisodeWriter(folder, fps=fps) as writer:
        for clips in generated:
            for clip in clips:
                pairs = {name: replace(pair, generated=done) for name, pair in clip.pairs.items()}
                pair, number = pairs["judge"], labeller.numbers[pairs["judge"].episode]
                actions = labeller.corpus.actions(number)[pair.start : pair.stop]
                writer.add(_episode(pair, labeller.infos[number], clip.frames, actions))
                for name, labelled in pairs.items():
                    result[name].append(labelled)
                done += 1
            if progress is not None:
                progress(done, len(recipes))
    return result


def generate_chunk(
    labellers: Labellers, models: Mapping[str, GenerateFn], recipes: Sequence[Pair]
) -> list[GeneratedClip]:
    """The clips of a chunk of recipes, all of one length, with their ids and labels."""
    labeller = labellers["judge"]
    infos = [labeller.infos[labeller.numbers[pair.episode]] for pair in recipes]
    futures = [labeller.corpus.frames(labeller.numbers[p.episode], p.start, p.stop) for p in recipes]
    clips = _roll_out(labeller, models, recipes, futures)
    labelled = {name: each.label_generated(recipes, clips, futures) for name, each in labellers.items()}
    result: list[GeneratedClip] = []
    for row, (recipe, info, clip) in enumerate(zip(recipes, infos, clips, strict=True)):
        own = pair_id(recipe, info.scene, clip)
        result.append(GeneratedClip({name: replace(pairs[row], id=own) for name, pairs in labelled.items()}, clip))
    return result


def _chunks(recipes: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    """The recipes in their order, at most `size` at a time; those of a chunk have the same length."""
    chunk: list[Pair] = []
    for pair in recipes:
        if chunk and (len(chunk) == size or pair.stop - pair.start != chunk[0].stop - chunk[0].start):
            yield chunk
            chunk = []
        chunk.append(pair)
    yield chunk


def _roll_out(
    labeller: PairLabeller, models: Mapping[str, GenerateFn], recipes: Sequence[Pair], futures: Sequence[UInt8]
) -> list[UInt8]:
    """The generated clip (T, H, W, 3) of each recipe, from the first frame of the true clip in `futures`."""
    batch_size, corpus, clips = labeller.spec.generated.batch_size, labeller.corpus, dict[int, UInt8]()
    for name, generate in models.items():
        rows = [row for row, pair in enumerate(recipes) if pair.model == name]
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            pairs = [recipes[row] for row in batch]
            numbers = [labeller.numbers[pair.episode] for pair in pairs]
            predicted = generate(
                np.stack([futures[row][0] for row in batch]),
                np.stack([corpus.actions(n)[p.start : p.stop - 1] for n, p in zip(numbers, pairs, strict=True)]),
                np.stack([corpus.action_mask(number) for number in numbers]),
                np.array([pair.seed for pair in pairs]),
            )
            for row, frames in zip(batch, predicted, strict=True):
                clips[row] = np.concatenate([futures[row][:1], frames])
    return [clips[row] for row in range(len(recipes))]


def _episode(pair: Pair, info: EpisodeInfo, frames: UInt8, actions: Float32) -> Episode:
    """A generated clip as an episode; its actions are the normalised ones."""
    return Episode(
        id=f"{pair.episode}/{pair.start}/{pair.model}/{pair.generated}",
        source=pair.source,
        task=info.task,
        instruction=pair.instruction,
        policy=info.policy,
        scene=info.scene,
        split=pair.split,
        frames=frames,
        actions=actions,
    )
