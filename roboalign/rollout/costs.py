"""The cost of a rollout: the longest sequence, the largest cache, and the seconds of each frame."""

import time
from dataclasses import dataclass, field

import torch

from roboalign.rollout.interfaces import SequenceState


@dataclass
class RolloutCosts:
    """Measures a rollout while it is made. Time runs from one record to the next."""

    peak_sequence: int = 0
    """Tokens of the longest sequence."""
    cache_bytes: int = 0
    """Largest key-value cache of one row, in bytes."""
    seconds: list[float] = field(default_factory=list)
    """Wall-clock seconds of each frame, for all rows together."""
    _last_mark: float = field(default_factory=time.perf_counter)

    def record_state(self, state: SequenceState, rows: int) -> None:
        """The sequences of `rows` rows were extended."""
        self.peak_sequence = max(self.peak_sequence, state.sequence_length)
        self.cache_bytes = max(self.cache_bytes, state.cache_bytes // rows)

    def record_frame(self) -> None:
        """A frame was drawn in the time since the last record."""
        self.seconds.append(self._lap())

    def record_decoding(self, frames: int) -> None:
        """The latest `frames` frames were decoded in the time since the last record, which is shared among them."""
        share = self._lap() / frames
        self.seconds[-frames:] = [value + share for value in self.seconds[-frames:]]

    def _lap(self) -> float:
        # An accelerator runs on after a call returns; without waiting, its time would count for a later frame.
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        lap, self._last_mark = now - self._last_mark, now
        return lap
