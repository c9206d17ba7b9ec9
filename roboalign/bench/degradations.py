"""Degradations of recorded clips: functions of the clip, a severity in (0, 1] and a seed.

Three families: some rearrange frames, some remove or teleport the object, some alter pixels. Swapped instructions and
actions leave the frames unchanged. For the first two families the states that the degraded clip shows can be computed
(roboalign/bench/labels.py).

The first frame is never changed, since every world model is given it. As the severity goes to 0, so does the change.
Functions that take a seed make the same random choices for the same seed, so that frames and states stay consistent.
"""

from typing import Literal, TypeGuard, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from roboalign.bench.spec import DegradationKind
from roboalign.types import KEYPOINT_NAMES, Float32, UInt8

Mask = NDArray[np.bool_]

Rearranging = Literal["shuffle", "premature_end", "freeze", "delay", "reversal", "splice"]
"""Kinds that rearrange frames."""

Moving = Literal["object_removed", "object_teleported"]
"""Kinds that remove or teleport the object; they need its keypoints."""

OBJECT_UV = slice(KEYPOINT_NAMES.index("object_u"), KEYPOINT_NAMES.index("object_v") + 1)
GRIPPER_UV = slice(KEYPOINT_NAMES.index("gripper_u"), KEYPOINT_NAMES.index("gripper_v") + 1)

MAX_BLUR_RADIUS = 0.06
"""Radius of the blur at severity 1, as a fraction of the frame's height. Our choice, like all constants here."""
MAX_NOISE_STD = 60.0
"""Standard deviation of the noise at severity 1, of 255."""
MAX_FLICKER = 0.6
"""Largest relative change of brightness at severity 1."""
MAX_TELEPORT = 0.45
"""Displacement of a teleported object at severity 1, as a fraction of the image's side."""
EDGE_MARGIN = 0.04
"""Distance from the image's edge that a teleported object keeps if it can, as a fraction of the side."""
MIN_VISIBLE_AREA = 0.001
"""Fraction of the image that an object must cover to count as visible: four pixels of 64 x 64."""
MIN_VISIBLE_FRACTION = 0.5
"""An object that shows less than this fraction of its largest mask is pasted from the frame of that mask."""

MIN_GRIPPER_DISTANCE = 0.12
"""Distance of gripper and object, as a fraction of the image's side, from which neither occludes the other."""
MAX_COLOUR_DISTANCE = 0.3
"""Largest L1 distance of two chromaticities within one object."""
MIN_BRIGHTNESS = 30
"""Sum of red, green and blue below which a pixel's chromaticity is unreliable."""
COLOUR_BINS = 12
"""Bins a channel of the chromaticity histogram in which the object's colour is found."""
COLOUR_FRAMES = 8
"""Frames in which the object's colour is measured."""
MAX_OBJECT_AREA = 0.08
"""Fraction of the image that an object covers at most; a larger mask is background."""
SEARCH_RADIUS = 0.25
"""Half of the side of the square around the keypoint that holds the object, as a fraction of the image's height."""
KEYPOINT_RADIUS = 0.06
"""Distance from the keypoint within which the object's mask must begin, as a fraction of the image's height."""
ROWS_PER_RIM_PIXEL = 64
"""Image rows for each pixel of the rim in which an object's colour blends with its surroundings."""


def degrade(
    kind: DegradationKind,
    frames: UInt8,
    severity: float,
    seed: int,
    other: UInt8 | None = None,
    keypoints: Float32 | None = None,
) -> UInt8:
    """Degrade a clip (T, H, W, 3); only `premature_end` changes T.

    Args:
        kind: The degradation.
        frames: The clip, which is not modified.
        severity: In (0, 1].
        seed: Determines all random choices.
        other: Frames with which `splice` continues, at least as many as it replaces.
        keypoints: (T, 6), required by the kinds that move the object.

    Raises ValueError for a severity outside (0, 1], and if `other` or `keypoints` is needed and missing.
    """
    if not 0 < severity <= 1:
        raise ValueError(f"severity is {severity:g}; it must be above 0 and at most 1")
    match kind:
        case "swapped_instruction" | "swapped_actions":
            return frames
        case "flicker" | "blur" | "noise":
            return alter_pixels(kind, frames, severity, seed)
        case "object_removed" | "object_teleported":
            if keypoints is None:
                raise ValueError(f"{kind} needs the clip's keypoints")
            return move_object(kind, frames, keypoints, severity, seed)
        case "shuffle" | "premature_end" | "freeze" | "delay" | "reversal" | "splice":
            order = frame_order(kind, len(frames), severity, seed)
            if order.max() < len(frames):
                return frames[order]
            if other is None or len(other) <= order.max() - len(frames):
                raise ValueError("a splice needs another clip of at least the same length")
            return np.concatenate([frames, other])[order]
        case _:
            assert_never(kind)


def rearranges(kind: DegradationKind) -> TypeGuard[Rearranging]:
    """Whether the degradation rearranges frames, and with them the states that the clip shows."""
    return kind in ("shuffle", "premature_end", "freeze", "delay", "reversal", "splice")


def moves_object(kind: DegradationKind) -> TypeGuard[Moving]:
    """Whether the degradation removes or teleports the object, in the frames and in the states that the clip shows."""
    return kind in ("object_removed", "object_teleported")


def frame_order(kind: Rearranging, length: int, severity: float, seed: int) -> NDArray[np.int64]:
    """The frame indices that a degraded clip of `length` frames shows, beginning with 0.

    Indices from `length` on are frames of another clip (`splice` only). A clip of one frame stays as it is.
    """
    order, rng = np.arange(length), np.random.default_rng(seed)
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
            # At severity 1 only the first frame is shown, as by a model that copies its context.
            order = np.maximum(order - count, 0)
        case "reversal":
            # Forward to the turning point and back again, so that there is no jump.
            turn = length - 1 - count // 2
            order = turn - np.abs(turn - order)
        case "splice":
            order[length - count :] += length
        case _:
            assert_never(kind)
    return order


def alter_pixels(kind: Literal["flicker", "blur", "noise"], frames: UInt8, severity: float, seed: int) -> UInt8:
    """The frames (T, H, W, 3), altered from the second one on."""
    result, rng = frames.copy(), np.random.default_rng(seed)
    match kind:
        case "flicker":
            # Brightness and tint of each frame change at random; alternating signs make every frame differ visibly
            # from the one before it.
            signs = np.where(np.arange(len(frames)) % 2, 1.0, -1.0)
            gains = 1 + severity * MAX_FLICKER * signs[:, None] * rng.uniform(0.5, 1.0, (len(frames), 3))
            changed = frames[1:] * gains[1:, None, None, :]
            result[1:] = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        case "blur":
            # Growing over the clip, as a world model's blur does.
            radius = severity * MAX_BLUR_RADIUS * frames.shape[1]
            for index in range(1, len(frames)):
                blurred = Image.fromarray(frames[index]).filter(
                    ImageFilter.GaussianBlur(radius * index / (len(frames) - 1))
                )
                result[index] = np.asarray(blurred)
        case "noise":
            disturbed = frames[1:] + rng.normal(0, severity * MAX_NOISE_STD, frames[1:].shape)
            result[1:] = np.clip(np.rint(disturbed), 0, 255).astype(np.uint8)
        case _:
            assert_never(kind)
    return result


def absent_frames(length: int, severity: float, seed: int) -> slice:
    """The frames without the object: the fraction `severity` of all but the first, from a random frame on."""
    count = round(severity * (length - 1))
    start = int(np.random.default_rng(seed).integers(1, length - count + 1)) if count else length
    return slice(start, start + count)


def sample_teleport(keypoints: Float32, severity: float, seed: int) -> tuple[slice, Float32]:
    """The frames in which a teleported object is displaced, up to the end, and its offset (2,) in image coordinates.

    `keypoints` is (T, 6). Of 16 random directions the first one is taken that keeps the object within the image in the
    most frames.
    """
    length = len(keypoints)
    if length < 2:
        return slice(length, length), np.zeros(2, np.float32)
    rng = np.random.default_rng(seed)
    start = int(rng.integers(1, 1 + max(1, 2 * length // 3)))
    angles = rng.uniform(0, 2 * np.pi, 16)
    offsets = severity * MAX_TELEPORT * np.stack([np.cos(angles), np.sin(angles)], 1)
    positions = keypoints[start:, OBJECT_UV][None] + offsets[:, None]
    inside = ((positions > EDGE_MARGIN) & (positions < 1 - EDGE_MARGIN)).all(-1).mean(1)
    return slice(start, length), offsets[int(inside.argmax())].astype(np.float32)


def visible_share(kind: Moving, areas: NDArray[np.float64], keypoints: Float32, severity: float, seed: int) -> float:
    """The share of the frames to be changed in which the object is visible, so that it can be moved.

    `areas` (T,) are the fractions of the image that the object covers; `keypoints` is (T, 6).
    """
    if kind == "object_removed":
        changed = absent_frames(len(keypoints), severity, seed)
    else:
        changed, _ = sample_teleport(keypoints, severity, seed)
    return float((areas[changed] >= MIN_VISIBLE_AREA).mean()) if len(areas[changed]) else 0.0


def move_object(kind: Moving, frames: UInt8, keypoints: Float32, severity: float, seed: int) -> UInt8:
    """The frames (T, H, W, 3) with the object painted out, and for `object_teleported` pasted elsewhere."""
    result = frames.copy()
    match kind:
        case "object_removed":
            changed, offset = absent_frames(len(frames), severity, seed), None
        case "object_teleported":
            changed, offset = sample_teleport(keypoints, severity, seed)
        case _:
            assert_never(kind)
    numbers = range(*changed.indices(len(frames)))
    if not len(numbers):
        return result
    height, width = frames.shape[1:3]
    masks = object_masks(frames, keypoints)
    areas = masks.sum((1, 2))
    largest = int(areas.argmax())
    for number in numbers:
        result[number] = paint_out(frames[number], dilate(masks[number]))
        if offset is None:
            continue
        visible = areas[number] >= MIN_VISIBLE_FRACTION * areas[largest]
        sprite = number if visible else largest
        # The sprite of another frame is first moved to the object's position in this one.
        shift = (keypoints[number, OBJECT_UV] - keypoints[sprite, OBJECT_UV] + offset) * [width, height]
        right, down = (round(float(value)) for value in shift)
        if (right, down) == (0, 0) and visible:
            result[number] = frames[number]
        else:
            result[number] = paste(result[number], frames[sprite], masks[sprite], down, right)
    return result


def object_masks(frames: UInt8, keypoints: Float32) -> Mask:
    """The object's pixels (T, H, W) in frames (T, H, W, 3), from its keypoints (T, 6); empty if it is occluded.

    The object's colour is measured in frames in which the gripper is far away. The mask is the connected region of that
    colour around the keypoint; regions above MAX_OBJECT_AREA are background and left out.
    """
    length, height, width = frames.shape[:3]
    rows, columns, inside = _pixel_indices(keypoints[:, OBJECT_UV], height, width)
    masks = np.zeros((length, height, width), dtype=bool)
    if not inside.any():
        return masks
    apart = np.sqrt(((keypoints[:, GRIPPER_UV] - keypoints[:, OBJECT_UV]) ** 2).sum(1)) >= MIN_GRIPPER_DISTANCE
    unoccluded = np.flatnonzero(inside & apart)
    unoccluded = unoccluded if len(unoccluded) else np.flatnonzero(inside)
    chosen = unoccluded[np.linspace(0, len(unoccluded) - 1, min(COLOUR_FRAMES, len(unoccluded))).astype(np.int64)]
    radius, half = max(1.5, KEYPOINT_RADIUS * height), round(SEARCH_RADIUS * height)
    distances = np.hypot(
        np.arange(height)[None, :, None] - rows[:, None, None], np.arange(width)[None, None, :] - columns[:, None, None]
    )
    near = distances <= radius
    bright = frames[chosen].sum(-1, dtype=np.int64) >= MIN_BRIGHTNESS
    colour = _object_colour(_chromaticity(frames[chosen]), bright, near[chosen])
    if colour is None:
        return masks
    for number in np.flatnonzero(inside):
        box = tuple(slice(max(0, centre - half), centre + half + 1) for centre in (rows[number], columns[number]))
        pixels = frames[number][box]
        alike = np.abs(_chromaticity(pixels) - colour).sum(-1) <= MAX_COLOUR_DISTANCE
        alike &= pixels.sum(-1, dtype=np.int64) >= MIN_BRIGHTNESS
        regions, _ = ndimage.label(alike, structure=np.ones((3, 3)))
        labels = np.unique(regions[near[number][box]])
        mask = np.isin(regions, labels[labels > 0])
        if mask.sum() <= MAX_OBJECT_AREA * height * width:
            masks[number][box] = mask
    return masks


def _chromaticity(pixels: UInt8) -> NDArray[np.float64]:
    """Shares of red, green and blue of pixels (…, 3), which do not depend on the brightness."""
    values = pixels.astype(np.float64)
    return np.asarray(values / np.maximum(values.sum(-1, keepdims=True), 1))


def _pixel_indices(points: Float32, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Mask]:
    """Rows and columns of image coordinates (T, 2), and whether they lie within the image."""
    finite = np.asarray(np.isfinite(points).all(axis=1))
    indices = np.floor(np.where(finite[:, None], points, -1.0) * [width, height]).astype(np.int64)
    inside = np.asarray(finite & (indices >= 0).all(1) & (indices < [width, height]).all(1))
    return indices[:, 1].clip(0, height - 1), indices[:, 0].clip(0, width - 1), inside


def _object_colour(chromaticity: NDArray[np.float64], bright: Mask, near: Mask) -> NDArray[np.float64] | None:
    """The chromaticity (3,) that is common near the keypoint and rare elsewhere; None without bright pixels there.

    Histogram bins are rated by the square of their count near the keypoint over their count in the whole image.
    """
    bins = np.floor(chromaticity[..., :2] * COLOUR_BINS).astype(np.int64) @ [COLOUR_BINS + 1, 1]
    local = bins[near & bright]
    if not len(local):
        return None
    local_counts, counts = np.bincount(local), np.bincount(bins[bright])
    best = int((local_counts.astype(np.float64) ** 2 / np.maximum(counts[: len(local_counts)], 1)).argmax())
    return np.asarray(np.median(chromaticity[near & bright & (bins == best)], axis=0))


def dilate(mask: Mask) -> Mask:
    """A mask (H, W) with the rim in which the object's colour blends with its surroundings."""
    iterations = max(1, mask.shape[0] // ROWS_PER_RIM_PIXEL)
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=iterations))


def paint_out(frame: UInt8, mask: Mask) -> UInt8:
    """A frame (H, W, 3) whose masked pixels are interpolated from the pixels around them, by Laplace's equation: each
    is the mean of its four neighbours. A frame that is masked as a whole stays as it is."""
    count = int(mask.sum())
    if count in (0, mask.size):
        return frame
    height, width = mask.shape
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(count)
    rows, columns = np.nonzero(mask)
    unknowns = np.arange(count)
    degree, constants = np.zeros(count), np.zeros((count, 3))
    entries: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        next_rows, next_columns = rows + down, columns + right
        inside = (next_rows >= 0) & (next_rows < height) & (next_columns >= 0) & (next_columns < width)
        degree += inside
        neighbour = np.full(count, -1)
        neighbour[inside] = number[next_rows[inside], next_columns[inside]]
        entries.append((unknowns[neighbour >= 0], neighbour[neighbour >= 0]))
        known = inside & (neighbour < 0)
        constants[known] += frame[next_rows[known], next_columns[known]]
    row_indices = np.concatenate([unknowns, *(row for row, _ in entries)])
    column_indices = np.concatenate([unknowns, *(column for _, column in entries)])
    values = np.concatenate([degree, *(-np.ones(len(row)) for row, _ in entries)])
    matrix = coo_array((values, (row_indices, column_indices)), shape=(count, count)).tocsc()
    result = frame.copy()
    result[mask] = np.clip(np.rint(spsolve(matrix, constants)), 0, 255).astype(np.uint8).reshape(count, 3)
    return result


def paste(frame: UInt8, patch: UInt8, mask: Mask, down: int, right: int) -> UInt8:
    """A frame (H, W, 3) with the masked pixels of `patch` (H, W, 3) drawn `down` rows and `right` columns away; pixels
    outside the frame are left out."""
    rows, columns = np.nonzero(mask)
    new_rows, new_columns = rows + down, columns + right
    height, width = mask.shape
    inside = (new_rows >= 0) & (new_rows < height) & (new_columns >= 0) & (new_columns < width)
    result = frame.copy()
    result[new_rows[inside], new_columns[inside]] = patch[rows[inside], columns[inside]]
    return result
