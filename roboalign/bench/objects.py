"""Finding the object in a clip by its recorded keypoints, painting it out, and pasting it elsewhere."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from roboalign.types import KEYPOINT_NAMES, Float32, UInt8

Mask = NDArray[np.bool_]

OBJECT_UV = slice(KEYPOINT_NAMES.index("object_u"), KEYPOINT_NAMES.index("object_v") + 1)
GRIPPER_UV = slice(KEYPOINT_NAMES.index("gripper_u"), KEYPOINT_NAMES.index("gripper_v") + 1)

CLEAR = 0.12
"""Distance of gripper and object in the picture, as a share of its side, from which on neither hides the other."""

ALIKE = 0.3
"""Largest distance of two colours' shares of red, green and blue within one object. Our choice."""

DIMMEST = 30
"""Brightness (sum of red, green and blue) below which a pixel has no colour to speak of."""

SHADES = 12
"""Steps of the coarse colours among which the object's is looked for."""

LARGEST = 0.08
"""Share of the picture that an object covers at most; more is a mistaken background. Our choice."""

LOOKS = 8
"""Frames in which the object's colour is looked for."""

SPAN = 0.25
"""An object's pixels lie within a square of twice this share of the picture's height around its keypoint."""

NEAR = 0.06
"""An object's pixels hang together with one this near to its keypoint, as a share of the picture's height."""

RIM = 64
"""Rows of the picture for each pixel of blended rim around an object."""


def _shares(pixels: UInt8) -> NDArray[np.float64]:
    """Shares of red, green and blue of pixels (…, 3); they do not change with the light's strength."""
    values = pixels.astype(np.float64)
    return np.asarray(values / np.maximum(values.sum(-1, keepdims=True), 1))


def _pixels(points: Float32, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Mask]:
    """Rows, columns, and whether they lie in the picture, of image coordinates (T, 2)."""
    finite = np.asarray(np.isfinite(points).all(axis=1))
    place = np.floor(np.where(finite[:, None], points, -1.0) * [width, height]).astype(np.int64)
    inside = np.asarray(finite & (place >= 0).all(1) & (place < [width, height]).all(1))
    return place[:, 1].clip(0, height - 1), place[:, 0].clip(0, width - 1), inside


def _colour(shares: NDArray[np.float64], lit: Mask, near: Mask) -> NDArray[np.float64] | None:
    """The colour (3,) of what lies at the keypoint and nowhere else: of the coarse colours of the pixels `near` it, the
    one with the most of them there for its number in the picture. None where no lit pixel is near."""
    coarse = np.floor(shares[..., :2] * SHADES).astype(np.int64) @ [SHADES + 1, 1]
    here = coarse[near & lit]
    if not len(here):
        return None
    among, everywhere = np.bincount(here), np.bincount(coarse[lit])
    best = int((among.astype(np.float64) ** 2 / np.maximum(everywhere[: len(among)], 1)).argmax())
    return np.asarray(np.median(shares[near & lit & (coarse == best)], axis=0))


def object_masks(frames: UInt8, keypoints: Float32) -> Mask:
    """The pixels (T, H, W) of the object in frames (T, H, W, 3) by its keypoints (T, 6); none where it is hidden.

    Its colour is looked for in frames in which the gripper is not there as well; its pixels are those of that colour
    that hang together around the keypoint. A colour that floods the picture is not the object's.
    """
    length, height, width = frames.shape[:3]
    rows, columns, inside = _pixels(keypoints[:, OBJECT_UV], height, width)
    masks = np.zeros((length, height, width), dtype=bool)
    if not inside.any():
        return masks
    apart = np.sqrt(((keypoints[:, GRIPPER_UV] - keypoints[:, OBJECT_UV]) ** 2).sum(1)) >= CLEAR
    clear = np.flatnonzero(inside & apart)
    clear = clear if len(clear) else np.flatnonzero(inside)
    chosen = clear[np.linspace(0, len(clear) - 1, min(LOOKS, len(clear))).astype(np.int64)]
    reach, span = max(1.5, NEAR * height), round(SPAN * height)
    away = np.hypot(
        np.arange(height)[None, :, None] - rows[:, None, None], np.arange(width)[None, None, :] - columns[:, None, None]
    )
    near = away <= reach
    colour = _colour(_shares(frames[chosen]), frames[chosen].sum(-1, dtype=np.int64) >= DIMMEST, near[chosen])
    if colour is None:
        return masks
    for number in np.flatnonzero(inside):
        box = tuple(slice(max(0, at - span), at + span + 1) for at in (rows[number], columns[number]))
        pixels = frames[number][box]
        alike = np.abs(_shares(pixels) - colour).sum(-1) <= ALIKE
        alike &= pixels.sum(-1, dtype=np.int64) >= DIMMEST
        parts, _ = ndimage.label(alike, structure=np.ones((3, 3)))
        found = np.unique(parts[near[number][box]])
        mask = np.isin(parts, found[found > 0])
        if mask.sum() <= LARGEST * height * width:
            masks[number][box] = mask
    return masks


def grown(mask: Mask) -> Mask:
    """A mask (H, W) with the rim in which the object's colour blends with its surroundings'."""
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=max(1, mask.shape[0] // RIM)))


def paint_out(frame: UInt8, mask: Mask) -> UInt8:
    """A frame (H, W, 3) whose masked pixels go over smoothly into what surrounds them: each is the mean of its four
    neighbours (Laplace's equation). A frame that is masked whole stays as it is."""
    count = int(mask.sum())
    if count in (0, mask.size):
        return frame
    height, width = mask.shape
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(count)
    rows, columns = np.nonzero(mask)
    own = np.arange(count)
    degree, known = np.zeros(count), np.zeros((count, 3))
    entries: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        there_rows, there_columns = rows + down, columns + right
        inside = (there_rows >= 0) & (there_rows < height) & (there_columns >= 0) & (there_columns < width)
        degree += inside
        unknown = np.full(count, -1)
        unknown[inside] = number[there_rows[inside], there_columns[inside]]
        entries.append((own[unknown >= 0], unknown[unknown >= 0]))
        given = inside & (unknown < 0)
        known[given] += frame[there_rows[given], there_columns[given]]
    across = np.concatenate([own, *(row for row, _ in entries)])
    along = np.concatenate([own, *(column for _, column in entries)])
    values = np.concatenate([degree, *(-np.ones(len(row)) for row, _ in entries)])
    matrix = coo_array((values, (across, along)), shape=(count, count)).tocsc()
    result = frame.copy()
    result[mask] = np.clip(np.rint(spsolve(matrix, known)), 0, 255).astype(np.uint8).reshape(count, 3)
    return result


def paste(frame: UInt8, patch: UInt8, mask: Mask, down: int, right: int) -> UInt8:
    """A frame (H, W, 3) with the masked pixels of `patch` (H, W, 3) drawn `down` rows and `right` columns away; what
    would lie outside the frame is left out."""
    rows, columns = np.nonzero(mask)
    there_rows, there_columns = rows + down, columns + right
    height, width = mask.shape
    inside = (there_rows >= 0) & (there_rows < height) & (there_columns >= 0) & (there_columns < width)
    result = frame.copy()
    result[there_rows[inside], there_columns[inside]] = patch[rows[inside], columns[inside]]
    return result
