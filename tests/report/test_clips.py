"""Animations and strips hold the frames that they claim to hold."""

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from roboalign.report.clips import (
    GAP,
    ClipColumn,
    Showcase,
    animation_uri,
    enlarge,
    place_side_by_side,
    strip,
    strip_uri,
)
from roboalign.types import UInt8


def flat(*levels: int, size: int = 16) -> UInt8:
    return np.stack([np.full((size, size, 3), level, np.uint8) for level in levels])


SHOWCASE = Showcase(
    "toy/1", "toy", "push", "best", [ClipColumn("a", flat(0, 50, 100, 150)), ClipColumn("b", flat(200, 250))]
)


def image(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_enlarging_repeats_pixels() -> None:
    frames = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    big = enlarge(frames, 10)
    assert big.shape == (2, 12, 12, 3)
    np.testing.assert_array_equal(big[:, ::3, ::3], frames)
    assert enlarge(frames, 3) is not None
    assert enlarge(frames, 3).shape == frames.shape


def test_lanes_run_side_by_side_and_a_short_one_holds_its_last_frame() -> None:
    frames = place_side_by_side(SHOWCASE.columns, 16)
    assert frames.shape == (4, 16, 16 + GAP + 16, 3)
    assert frames[:, 0, 0, 0].tolist() == [0, 50, 100, 150]
    assert frames[:, 0, -1, 0].tolist() == [200, 250, 250, 250]


def test_a_strip_shows_first_and_last_frame() -> None:
    picture, numbers = strip(SHOWCASE.columns, 3)
    assert numbers == (0, 2, 3)
    assert picture[0, 0, 0] == 0
    assert picture[0, -1, 0] == 150
    assert picture[-1, -1, 0] == 250


def test_an_animation_has_all_frames_in_order() -> None:
    pictures = [
        np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image(animation_uri(SHOWCASE, 32, 10)))
    ]
    assert [picture.shape for picture in pictures] == [(32, 64 + GAP, 3)] * 4
    assert [int(picture[8, 8, 0]) for picture in pictures] == pytest.approx([0, 50, 100, 150], abs=6)


def test_pictures_have_the_same_bytes_each_time() -> None:
    assert animation_uri(SHOWCASE, 32, 10) == animation_uri(SHOWCASE, 32, 10)
    assert strip_uri(SHOWCASE, 2) == strip_uri(SHOWCASE, 2)
