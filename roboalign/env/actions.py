"""The action space of a source, the check of actions, and their conversion to the source's and the model's units."""

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from roboalign.env.errors import EnvError
from roboalign.store import ActionRange
from roboalign.types import Float32


class ActionScale:
    """Actions (A,) of a source: in its own units within the measured range, or normalised to [-1, 1]."""

    def __init__(self, source: str, limits: ActionRange, normalized: bool) -> None:
        self.source, self.limits, self.normalized = source, limits, normalized
        self._low, self._high = np.asarray(limits.low, np.float32), np.asarray(limits.high, np.float32)

    @property
    def width(self) -> int:
        """Number of action dimensions."""
        return len(self._low)

    @property
    def space(self) -> Box:
        """The action space of one robot, (A,) float32."""
        if self.normalized:
            return Box(-1.0, 1.0, (self.width,), np.float32)
        return Box(self._low, self._high, (self.width,), np.float32)

    def check(self, actions: object, shape: tuple[int, ...], active: NDArray[np.bool_] | None = None) -> Float32:
        """Convert actions to float32. Values beyond the action space are allowed, and clipped later.

        Args:
            actions: What a policy returned.
            shape: The expected shape, (A,) or (N, A).
            active: (N,), the copies whose actions are used; those of others may be NaN.

        Raises:
            EnvError: They are not numbers, have another shape, or one is NaN or infinite.
        """
        try:
            values = np.asarray(actions)
        except (TypeError, ValueError, RuntimeError) as error:
            raise EnvError(f"actions of {self.source} cannot be read as an array ({error})") from None
        if values.dtype.kind not in "fiu":
            raise EnvError(f"actions of {self.source} must be real numbers, not of dtype {values.dtype}")
        if values.shape != shape:
            raise EnvError(f"actions of {self.source} must have the shape {shape}, not {values.shape}")
        bad = ~np.isfinite(values)
        if active is not None:
            bad &= active[:, None]
        if bad.any():
            place = tuple(int(index) for index in np.argwhere(bad)[0])
            copy = f" of copy {place[0]}" if len(place) > 1 else ""
            raise EnvError(
                f"dimension {place[-1]} of the action{copy} of {self.source} is {values[place]}; it must be finite"
            )
        # Clipped before the conversion: float32 would turn the largest float64 into infinity.
        largest = np.finfo(np.float32).max
        result: Float32 = np.clip(values, -largest, largest).astype(np.float32)
        return result

    def to_source(self, values: Float32) -> Float32:
        """Actions (N, A) in the source's units, clipped to the measured range."""
        if self.normalized:
            values = self._low + (np.clip(values, -1, 1) + 1) / 2 * (self._high - self._low)
        return np.clip(values, self._low, self._high).astype(np.float32)

    def to_model(self, values: Float32) -> Float32:
        """Actions (N, A) in [-1, 1], clipped, as world models and scorers take them."""
        if self.normalized:
            return np.clip(values, -1, 1).astype(np.float32)
        # Clipped beforehand, which does not change the result, since huge actions would overflow.
        return self.limits.normalise(self.to_source(values))
