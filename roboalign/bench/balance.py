"""Balance: how many pairs of each kind, and which of the candidates, so that every stratum of scores is as full."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def shares(total: int, weights: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], int]:
    """`total` divided in proportion to the weights, exactly, by largest remainder."""
    whole = sum(weights.values())
    exact = {key: total * weight / whole for key, weight in weights.items()}
    result = {key: int(value) for key, value in exact.items()}
    left = sorted(exact, key=lambda key: (result[key] - exact[key], key))[: total - sum(result.values())]
    return {key: count + (key in left) for key, count in result.items()}


def stratum(total: float, maximum: float, strata: int) -> int:
    """The part of the range from 0 to `maximum`, cut into `strata` of equal width, that a total score falls into."""
    return min(strata - 1, int(strata * total / maximum))


def level(candidates: Sequence[int], counts: Counts, wanted: int) -> list[int]:
    """The numbers of the `wanted` candidates (all, where there are fewer) that fill the emptiest strata, in order.

    `candidates` are strata, `counts` the pairs that each stratum has already: one is taken at a time, from the emptiest
    stratum that has one left. `counts` is brought up to date.
    """
    waiting: dict[int, list[int]] = {}
    for number in range(len(candidates) - 1, -1, -1):
        waiting.setdefault(candidates[number], []).append(number)
    chosen: list[int] = []
    while waiting and len(chosen) < wanted:
        best = min(waiting, key=lambda each: (counts[each], each))
        chosen.append(waiting[best].pop())
        counts[best] += 1
        if not waiting[best]:
            del waiting[best]
    return sorted(chosen)
