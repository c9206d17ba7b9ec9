"""Chooses and orders the clips of a study."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from roboalign.bench.pairs import Pair
from roboalign.types import Split

REPEATED = 0.1
"""Fraction of the clips that are shown twice (our choice)."""


class SampleError(ValueError):
    """The bench has no clips for a study. The message states the reason."""


@dataclass(frozen=True, slots=True)
class Showing:
    """One clip on the page: the number of its pair in the bench, and 1 or 2 for its first or second showing."""

    row: int
    showing: int


def choose_clips(pairs: Sequence[Pair], split: Split, clips: int, seed: int) -> list[int]:
    """Choose pairs of a split, as evenly over sources and origins as the bench allows.

    Pairs that judges do not score (`judged` is false, as with swapped actions) are not chosen, because their label
    cannot be seen by people either.

    Args:
        pairs: The bench's pairs.
        split: The split.
        clips: Number of pairs; all if the split has fewer.
        seed: Seed of the choice.

    Returns:
        The numbers of the pairs.

    Raises:
        SampleError: The split has no such pairs.
    """
    generator = np.random.default_rng(seed)
    cells: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(pairs):
        if pair.split == split and pair.judged:
            cells.setdefault((pair.origin, pair.source), []).append(row)
    if not cells:
        raise SampleError(f"the bench has no pairs in the split {split}; choose another by --split")
    queues = [list(generator.permutation(cells[key])) for key in sorted(cells)]
    rows: list[int] = []
    while queues and len(rows) < clips:
        queues = [queue for queue in queues if queue]
        # Each round takes one clip of each cell; the last round takes those of random cells.
        for number in generator.permutation(len(queues))[: clips - len(rows)]:
            rows.append(int(queues[number].pop()))
    return rows


def order_for_rater(rows: Sequence[int], rater: str, seed: int) -> list[Showing]:
    """The showings of the clips `rows` in a random order that depends on the rater.

    In studies of at least three clips, a tenth of the clips is repeated: clips of the first third, in the last third.
    """
    generator = np.random.default_rng([seed, zlib.crc32(rater.encode())])
    first = [Showing(int(row), 1) for row in generator.permutation(rows)]
    if len(first) < 3:
        return first
    repeats = max(1, round(REPEATED * len(first)))
    start = len(first) - len(first) // 3
    repeated = [Showing(showing.row, 2) for showing in first[:repeats]]
    tail = [*first[start:], *repeated]
    return [*first[:start], *(tail[number] for number in generator.permutation(len(tail)))]
