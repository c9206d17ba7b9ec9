"""Degradations of recorded clips: pure functions of the clip, a severity in (0, 1] and a random generator.

Some rearrange frames, so that what they show can be read off the rearranged states; the others alter pixels. The
first frame is never touched: it is given to every world model. As the severity goes to 0, so does the change.
"""

from typing import Literal, TypeGuard, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from roboalign.bench.spec import DegradationKind
from roboalign.types import UInt8

Rearranging = Literal["shuffle", "premature_end", "freeze", "reversal", "splice"]
"""Kinds that rearrange frames."""

BLUR_PIXELS = 0.06
"""Radius of the strongest blur, as a share of the frame's height. Our choice."""

NOISE = 60.0
"""Standard deviation of the strongest noise, of 255. Our choice."""

FLICKER = 0.6
"""Largest change of brightness, as a factor. Our choice."""


def rearranges(kind: DegradationKind) -> TypeGuard[Rearranging]:
    """Whether the degradation rearranges frames (and states with them) rather than altering pixels or words."""
    return kind in ("shuffle", "premature_end", "freeze", "reversal", "splice")


def rearrange(kind: Rearranging, length: int, severity: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """The frame numbers that a spoilt clip of `length` frames shows, beginning with 0.

    Numbers from `length` on are frames of another clip (`splice` alone). A clip of one frame stays as it is.
    """
    order = np.arange(length)
    count = round(severity * (length - 1))
    if count == 0:
        return order
    match kind:
        case "shuffle":
            if count > 1:
                chosen = np.sort(rng.choice(np.arange(1, length), count, replace=False))
                order[chosen] = rng.permutation(chosen)
        case "premature_end":
            order = order[: length - count]
        case "freeze":
            start = int(rng.integers(0, length - count))
            order[start + 1 : start + count + 1] = start
        case "reversal":
            # Forward to the turning point and back again, so that it shows no jump.
            turn = length - 1 - count // 2
            order = turn - np.abs(turn - order)
        case "splice":
            order[length - count :] += length
        case _:
            assert_never(kind)
    return order


def alter(kind: Literal["flicker", "blur", "noise"], frames: UInt8, severity: float, rng: np.random.Generator) -> UInt8:
    """The frames (T, H, W, 3), altered from the second one on."""
    result = frames.copy()
    match kind:
        case "flicker":
            # Brightness and tint of each frame change at random, the sign alternating so that no frame hides.
            signs = np.where(np.arange(len(frames)) % 2, 1.0, -1.0)
            gains = 1 + severity * FLICKER * signs[:, None] * rng.uniform(0.5, 1.0, (len(frames), 3))
            changed = frames[1:] * gains[1:, None, None, :]
            result[1:] = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        case "blur":
            # Growing over the clip, as a world model's blur does.
            radius = severity * BLUR_PIXELS * frames.shape[1]
            for index in range(1, len(frames)):
                blurred = Image.fromarray(frames[index]).filter(
                    ImageFilter.GaussianBlur(radius * index / (len(frames) - 1))
                )
                result[index] = np.asarray(blurred)
        case "noise":
            disturbed = frames[1:] + rng.normal(0, severity * NOISE, frames[1:].shape)
            result[1:] = np.clip(np.rint(disturbed), 0, 255).astype(np.uint8)
        case _:
            assert_never(kind)
    return result


def degrade(kind: DegradationKind, frames: UInt8, severity: float, seed: int, other: UInt8 | None = None) -> UInt8:
    """The clip (T, H, W, 3), spoilt. `splice` goes on with the frames of `other`, at least as many as are replaced.

    Raises ValueError for a severity outside (0, 1], or a splice without the other clip.
    """
    if not 0 < severity <= 1:
        raise ValueError(f"severity is {severity:g}; it lies above 0 and is at most 1")
    rng = np.random.default_rng(seed)
    match kind:
        case "swapped_instruction":
            return frames
        case "flicker" | "blur" | "noise":
            return alter(kind, frames, severity, rng)
        case "shuffle" | "premature_end" | "freeze" | "reversal" | "splice":
            order = rearrange(kind, len(frames), severity, rng)
            if order.max() < len(frames):
                return frames[order]
            if other is None or len(other) <= order.max() - len(frames):
                raise ValueError("a splice needs another clip, as long as this one")
            return np.concatenate([frames, other])[order]
        case _:
            assert_never(kind)
