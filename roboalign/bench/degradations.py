"""Degradations of recorded clips: pure functions of the clip, a severity in (0, 1] and a random generator.

Some rearrange frames and some take the object away or elsewhere, so that what they show can be read off the states so
edited; the others alter pixels, or leave the clip as it is and swap its instruction or its actions. The first frame is
never touched: it is given to every world model. As the severity goes to 0, so does the change.
"""

from typing import Literal, TypeGuard, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from roboalign.bench.objects import OBJECT_UV, grown, object_masks, paint_out, paste
from roboalign.bench.spec import DegradationKind
from roboalign.types import Float32, UInt8

Rearranging = Literal["shuffle", "premature_end", "freeze", "delay", "reversal", "splice"]
"""Kinds that rearrange frames."""

Moving = Literal["object_removed", "object_teleported"]
"""Kinds that take the object away or elsewhere; they need its keypoints."""

TELEPORT = 0.45
"""Longest way of a teleported object, as a share of the picture's side. Our choice."""

MARGIN = 0.04
"""A teleported object stays this far from the picture's edge, as a share of its side, where it can."""

FOUND = 0.001
"""Share of the picture that an object has to cover to count as found: four pixels of 64 x 64."""

HIDDEN = 0.5
"""An object of which less than this share of its largest picture is seen is pasted as that picture. Our choice."""

BLUR_PIXELS = 0.06
"""Radius of the strongest blur, as a share of the frame's height. Our choice."""

NOISE = 60.0
"""Standard deviation of the strongest noise, of 255. Our choice."""

FLICKER = 0.6
"""Largest change of brightness, as a factor. Our choice."""


def rearranges(kind: DegradationKind) -> TypeGuard[Rearranging]:
    """Whether the degradation rearranges frames (and states with them) rather than altering pixels or words."""
    return kind in ("shuffle", "premature_end", "freeze", "delay", "reversal", "splice")


def moves(kind: DegradationKind) -> TypeGuard[Moving]:
    """Whether the degradation takes the object away or elsewhere, in the picture and in the states that it shows."""
    return kind in ("object_removed", "object_teleported")


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
        case "delay":
            # At severity 1 the first frame is all that is shown, as by a model that copies its context.
            order = np.maximum(order - count, 0)
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


def absence(length: int, severity: float, rng: np.random.Generator) -> slice:
    """The frames without the object: the share `severity` of all but the first, beginning anywhere."""
    count = round(severity * (length - 1))
    start = int(rng.integers(1, length - count + 1)) if count else length
    return slice(start, start + count)


def teleport(keypoints: Float32, severity: float, rng: np.random.Generator) -> tuple[slice, Float32]:
    """From which frame on the object is elsewhere, to the end, and how far (2,) in image coordinates.

    `keypoints` is (T, 6). Of some random directions the first is taken that keeps the object in the picture; where none
    does, the one that keeps it there in the most frames.
    """
    length = len(keypoints)
    if length < 2:
        return slice(length, length), np.zeros(2, np.float32)
    start = int(rng.integers(1, 1 + max(1, 2 * length // 3)))
    angles = rng.uniform(0, 2 * np.pi, 16)
    ways = severity * TELEPORT * np.stack([np.cos(angles), np.sin(angles)], 1)
    places = keypoints[start:, OBJECT_UV][None] + ways[:, None]
    inside = ((places > MARGIN) & (places < 1 - MARGIN)).all(-1).mean(1)
    return slice(start, length), ways[int(inside.argmax())].astype(np.float32)


def move(kind: Moving, frames: UInt8, keypoints: Float32, severity: float, rng: np.random.Generator) -> UInt8:
    """The frames (T, H, W, 3) with the object painted out, and for `object_teleported` pasted elsewhere."""
    result = frames.copy()
    match kind:
        case "object_removed":
            span, way = absence(len(frames), severity, rng), None
        case "object_teleported":
            span, way = teleport(keypoints, severity, rng)
        case _:
            assert_never(kind)
    numbers = range(*span.indices(len(frames)))
    if not len(numbers):
        return result
    height, width = frames.shape[1:3]
    masks = object_masks(frames, keypoints)
    sizes = masks.sum((1, 2))
    fullest = int(sizes.argmax())
    for number in numbers:
        result[number] = paint_out(frames[number], grown(masks[number]))
        if way is None:
            continue
        whole = sizes[number] >= HIDDEN * sizes[fullest]
        sprite = number if whole else fullest
        # The sprite of another frame is first brought to where the object is in this one.
        offset = (keypoints[number, OBJECT_UV] - keypoints[sprite, OBJECT_UV] + way) * [width, height]
        right, down = (round(float(value)) for value in offset)
        if (right, down) == (0, 0) and whole:
            result[number] = frames[number]
        else:
            result[number] = paste(result[number], frames[sprite], masks[sprite], down, right)
    return result


def moved_keypoints(kind: Moving, keypoints: Float32, severity: float, seed: int) -> Float32:
    """The keypoints (T, 6) that the clip shows after `degrade`: NaN for an object that is gone."""
    rng = np.random.default_rng(seed)
    result = keypoints.copy()
    if kind == "object_removed":
        result[absence(len(keypoints), severity, rng), OBJECT_UV] = np.nan
    else:
        span, way = teleport(keypoints, severity, rng)
        result[span, OBJECT_UV] += way
    return result


def visible_change(kind: Moving, sizes: NDArray[np.float64], keypoints: Float32, severity: float, seed: int) -> float:
    """Share of the frames without the object, or with it elsewhere, in which enough of it is found to be moved;
    `sizes` (T,) are the shares of the picture that it covers."""
    rng = np.random.default_rng(seed)
    length = len(keypoints)
    span = absence(length, severity, rng) if kind == "object_removed" else teleport(keypoints, severity, rng)[0]
    return float((sizes[span] >= FOUND).mean()) if len(sizes[span]) else 0.0


def degrade(
    kind: DegradationKind,
    frames: UInt8,
    severity: float,
    seed: int,
    other: UInt8 | None = None,
    keypoints: Float32 | None = None,
) -> UInt8:
    """The clip (T, H, W, 3), spoilt. `splice` goes on with the frames of `other`, at least as many as are replaced;
    kinds that move the object look for it at its `keypoints` (T, 6).

    Raises ValueError for a severity outside (0, 1], a splice without the other clip, or a missing object.
    """
    if not 0 < severity <= 1:
        raise ValueError(f"severity is {severity:g}; it lies above 0 and is at most 1")
    rng = np.random.default_rng(seed)
    match kind:
        case "swapped_instruction" | "swapped_actions":
            return frames
        case "flicker" | "blur" | "noise":
            return alter(kind, frames, severity, rng)
        case "object_removed" | "object_teleported":
            if keypoints is None:
                raise ValueError(f"{kind} needs the clip's keypoints")
            return move(kind, frames, keypoints, severity, rng)
        case "shuffle" | "premature_end" | "freeze" | "delay" | "reversal" | "splice":
            order = rearrange(kind, len(frames), severity, rng)
            if order.max() < len(frames):
                return frames[order]
            if other is None or len(other) <= order.max() - len(frames):
                raise ValueError("a splice needs another clip, as long as this one")
            return np.concatenate([frames, other])[order]
        case _:
            assert_never(kind)
