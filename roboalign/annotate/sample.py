"""Which clips a study shows, and in which order."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from roboalign.bench.pairs import Pair
from roboalign.types import Split

REPEATED = 0.1
"""Share of the clips that are shown a second time. Our choice."""


class SampleError(ValueError):
    """The bench has no clips that a study could show; the message says why."""


@dataclass(frozen=True, slots=True)
class Showing:
    """One clip on the page: the number of its pair in the bench, and whether it comes for the first or second time."""

    row: int
    showing: int


def choose_clips(pairs: Sequence[Pair], split: Split, clips: int, seed: int) -> list[int]:
    """The numbers of `clips` pairs of a split, as even over sources and origins as the bench allows; all of them where
    it has no more. Pairs that judges are spared, as a clip beside another one's actions, are not shown: what a person
    sees does not tell their label either. Raises SampleError where the split is empty."""
    generator = np.random.default_rng(seed)
    cells: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(pairs):
        if pair.split == split and pair.judged:
            cells.setdefault((pair.origin, pair.source), []).append(row)
    if not cells:
        raise SampleError(f"the bench has no pairs in the split {split}")
    queues = [list(generator.permutation(cells[key])) for key in sorted(cells)]
    rows: list[int] = []
    while queues and len(rows) < clips:
        queues = [queue for queue in queues if queue]
        # A round takes one clip of each cell; the last round, of cells drawn by chance.
        for number in generator.permutation(len(queues))[: clips - len(rows)]:
            rows.append(int(queues[number].pop()))
    return rows


def order_for_rater(rows: Sequence[int], rater: str, seed: int) -> list[Showing]:
    """All clips in random order, another for each rater, and some of the first third again in the last third.

    One clip in ten comes twice, of studies of three clips or more.
    """
    generator = np.random.default_rng([seed, zlib.crc32(rater.encode())])
    first = [Showing(int(row), 1) for row in generator.permutation(rows)]
    if len(first) < 3:
        return first
    repeats = max(1, round(REPEATED * len(first)))
    start = len(first) - len(first) // 3
    again = [Showing(one.row, 2) for one in first[:repeats]]
    tail = [*first[start:], *again]
    return [*first[:start], *(tail[number] for number in generator.permutation(len(tail)))]
