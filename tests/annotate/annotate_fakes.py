"""Pairs as far as a study reads them."""

from dataclasses import dataclass

import numpy as np

MAXIMA = (3.0, 2.0, 1.0, 1.0, 1.0, 2.0)


@dataclass(frozen=True)
class FakePair:
    id: str
    split: str
    origin: str
    source: str
    instruction: str
    provenance: str
    scores: tuple[float, ...]
    model: str = "early_model"
    degradation: str = "premature_end"
    judged: bool = True


def fake_pairs(count: int = 60, split: str = "test") -> list[FakePair]:
    """Pairs of three origins and two sources in turn, with labels in half points."""
    rng = np.random.default_rng(0)
    return [
        FakePair(
            id=f"{number:016x}",
            split=split,
            origin=("real", "degraded", "generated")[number % 3],
            source=("arm", "crane")[number % 2],
            instruction=f"push block {number % 4}",
            provenance="rubric" if number % 3 else "full_marks",
            scores=tuple(float(rng.integers(0, 2 * maximum + 1)) / 2 for maximum in MAXIMA),
        )
        for number in range(count)
    ]


def fake_frames(number: int) -> np.ndarray:
    """Noisy clips for even numbers, still ones for odd."""
    rng = np.random.default_rng(number)
    noisy = rng.integers(0, 255, (6 + number % 5, 8, 12, 3), np.uint8)
    return noisy if number % 2 == 0 else np.repeat(noisy[:1], len(noisy), axis=0)
