"""Building the bench: how many pairs of each kind, which of the candidates, and their labels.

The same spec, episodes and models give the same bench, byte for byte.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from roboalign.bench.balance import Counts, level, shares, stratum
from roboalign.bench.degradations import moves
from roboalign.bench.generate import Chunks, Generate, Progress, generate
from roboalign.bench.labelling import Labels, all_limits, recorded_states
from roboalign.bench.pairs import BenchError, Origin, Pair, identity
from roboalign.bench.recipes import Recipes, generator, is_success
from roboalign.probe.spec import ProbeName
from roboalign.types import Split

__all__ = ["SPLITS", "Builder", "Generate", "all_limits", "build", "is_success", "recorded_states", "shares"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")

REDRAWS = 4
"""Draws for each clip wanted, before one that is in the bench already is taken again."""


class Builder(Labels):
    """Draws, chooses and labels pairs of a corpus."""

    @cached_property
    def recipes(self) -> Recipes:
        """What draws the recipes."""
        return Recipes(self.corpus, self.spec, self.states, self.keypoints)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The sources that pairs are made of."""
        if self.spec.unlabelled != "skip":
            return self.corpus.sources
        return tuple(source for source in self.corpus.sources if source in self.limits)

    def plan(self, available: Sequence[str]) -> Iterator[Pair]:
        """All pairs: labelled ones, and recipes of generated clips, where a model is `available`."""
        wanted = self.spec.splits.model_dump()
        sizes = shares(self.spec.pairs, {(split, ""): wanted[split] for split in SPLITS})
        for split in SPLITS:
            cells = self._cells(split, generated=bool(available))
            if not cells:
                continue
            counts = shares(sizes[split, ""], {key: weight for key, (weight, _) in cells.items()})
            for source in self.sources:
                filled = np.zeros(self.spec.balance.strata, np.int64)
                for origin in ("real", "generated", "policy", "degraded"):
                    if (source, origin) in cells:
                        episodes, count = cells[source, origin][1], counts[source, origin]
                        yield from self._fill(split, source, origin, episodes, count, filled, available)

    def plan_groups(self) -> Iterator[Pair]:
        """Recipes of all rollouts of groups."""
        for groups in self.spec.groups:
            episodes = {
                source: [
                    number
                    for number, info in enumerate(self.infos)
                    if (info.source, info.split) == (source, groups.split) and info.length > groups.frames
                ]
                for source in self.sources
                if groups.split == "test" or source not in self.spec.held_out_sources
            }
            cells = {(source, ""): 1.0 for source, numbers in episodes.items() if numbers}
            for (source, _), count in (shares(groups.prompts, cells) if cells else {}).items():
                for place in range(count):
                    yield from self.recipes.draw_group(groups, source, episodes[source], place)

    def _cells(self, split: Split, *, generated: bool) -> dict[tuple[str, str], tuple[float, list[int]]]:
        """The weight and the episodes of each source and origin that can be had."""
        origins: dict[Origin, float] = {
            origin: getattr(self.spec.origins, origin) for origin in get_args(Origin) if origin != "group"
        }
        result: dict[tuple[str, str], tuple[float, list[int]]] = {}
        for source in self.sources:
            if source in self.spec.held_out_sources and split != "test":
                continue
            size = 1.0
            if self.spec.balance.sources == "episodes":
                size = float(sum((info.source, info.split) == (source, split) for info in self.infos))
            for origin, share in origins.items():
                episodes = self.recipes.cell(split, source, origin)
                if not episodes or share == 0 or (origin == "generated" and not generated):
                    continue
                if origin != "degraded" or self.recipes.degradations(split, episodes):
                    result[source, origin] = (share * size, episodes)
        return result

    def _fill(
        self,
        split: Split,
        source: str,
        origin: Origin,
        episodes: list[int],
        count: int,
        filled: Counts,
        available: Sequence[str],
    ) -> Iterator[Pair]:
        """The pairs of one source and origin; `filled`, the pairs in each stratum of scores, is brought up to date."""

        def draw(place: int) -> Pair:
            return self.recipes.draw(split, source, origin, episodes, place)

        candidates = self.spec.balance.candidates
        match origin:
            case "real":
                pairs = [self.label(pair) for pair in self._distinct(draw, count, count)]
                level([self.stratum(pair) for pair in pairs], filled, count)
                yield from pairs
            case "generated":
                for place in range(count):
                    yield replace(draw(place), model=available[place % len(available)])
            case "policy":
                drawn = [self.label(pair) for pair in self._distinct(draw, count, count * candidates)]
                yield from (drawn[n] for n in level([self.stratum(pair) for pair in drawn], filled, count))
            case "degraded":
                yield from self._draw_degraded(split, source, episodes, count, filled)

    def _draw_degraded(
        self, split: Split, source: str, episodes: list[int], count: int, filled: Counts
    ) -> Iterator[Pair]:
        """Degraded pairs: each kind that applies equally often. What one kind cannot give, the next ones do."""
        kinds = self.recipes.degradations(split, episodes)
        # Where there are fewer pairs than kinds, chance decides which of them are had.
        order = generator(self.spec.seed, split, source, "kinds").permutation(len(kinds))
        # Those that may find no object to move come first: the others make up for what they cannot give.
        ordered = sorted((kinds[place] for place in order), key=lambda each: not moves(each.kind))
        for number, degradation in enumerate(ordered):
            quota = -(-count // (len(kinds) - number))
            drawn = [
                self.recipes.draw_degraded(split, source, degradation, episodes, place)
                for place in range(quota * self.spec.balance.candidates)
            ]
            pairs = [self.label(pair) for pair in drawn if pair is not None]
            pairs = list({pair.id: pair for pair in pairs}.values())
            chosen = level([self.stratum(pair) for pair in pairs], filled, quota)
            count -= len(chosen)
            yield from (pairs[n] for n in chosen)

    def _distinct(self, draw: Callable[[int], Pair], count: int, wanted: int) -> list[Pair]:
        """At least `count` recipes, as many as `wanted` where there are so many different ones."""
        found: dict[str, Pair] = {}
        for place in range(REDRAWS * wanted):
            if len(found) == wanted:
                break
            pair = self.with_id(draw(place))
            found.setdefault(pair.id, pair)
        pairs = list(found.values())
        return [pairs[n % len(pairs)] for n in range(max(count, len(pairs)))]

    def with_id(self, pair: Pair) -> Pair:
        """The pair of a recorded clip with its id."""
        return replace(pair, id=identity(pair, self.infos[self.numbers[pair.episode]].scene))

    def label(self, pair: Pair) -> Pair:
        """A recorded or degraded pair with its id, scores and their provenance."""
        return super().label(self.with_id(pair))

    def stratum(self, pair: Pair) -> int:
        """The stratum of a pair's total score."""
        return stratum(sum(pair.scores), self.reward.max_total, self.spec.balance.strata)


Pairs = dict[ProbeName, list[Pair]]
"""All pairs with the labels by each state probe; the same pairs in the same order."""


def build(
    builder: Builder,
    models: Mapping[str, Generate],
    folder: Path,
    fps: float,
    progress: Progress | None = None,
    chunks: Callable[[int], Chunks | None] = lambda clips: None,
    others: Mapping[ProbeName, Labels] | None = None,
) -> Pairs:
    """All pairs, labelled; the generated clips are written to the store `folder`. Raises BenchError for none at all.

    `models` are named as `Pair.model`. `chunks` is told how many clips are to be generated, and gives what makes them,
    or None to make them here. `others` label the generated clips through other state probes.
    """
    plan = list(builder.plan([name for name in builder.spec.generated.models if name in models]))
    plan += list(builder.plan_groups()) if models else []
    if not plan:
        raise BenchError(
            f"no pair can be made: no source has episodes of {builder.spec.shortest} frames"
            f"{' and recorded states' if builder.spec.unlabelled == 'skip' else ''}; see the bench's spec"
        )
    recipes = [pair for pair in plan if pair.model]
    made = generate(builder, recipes, models, folder, fps, progress, chunks(len(recipes)), others or {})
    result: Pairs = {}
    for name, generated in made.items():
        rest = iter(generated)
        result[name] = builder.apply_annotations([next(rest) if pair.model else pair for pair in plan])
    return result
