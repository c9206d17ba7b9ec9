import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from annotate_fakes import fake_frames, fake_pairs
from PIL import Image

from roboalign.annotate.page import render, steps, study
from roboalign.annotate.sample import Showing, order_for_rater
from roboalign.frame_sheets import sheet


@pytest.fixture(scope="module")
def content(six):
    return study(fake_pairs(12), fake_frames, order_for_rater(range(12), "", 0), six, "")


@pytest.fixture(scope="module")
def html(content):
    return render(content)


def picture(clip) -> np.ndarray:
    data = base64.b64decode(clip["image"].removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def tile(image: np.ndarray, clip, number: int) -> np.ndarray:
    top, left = number // clip["tiles"] * clip["height"], number % clip["tiles"] * clip["width"]
    return image[top : top + clip["height"], left : left + clip["width"]]


def test_every_frame_is_on_the_sheet_exactly(content):
    pairs = {pair.id: number for number, pair in enumerate(fake_pairs(12))}
    for clip in content["clips"]:
        frames, image = fake_frames(pairs[clip["clip"]]), picture(clip)
        assert clip["frames"] == len(frames)
        for number, frame in enumerate(frames):
            np.testing.assert_array_equal(tile(image, clip, number), frame)


def test_pictures_have_one_size_in_bytes_whatever_they_show(content):
    assert len({len(clip["image"]) for clip in content["clips"]}) == 1


def test_the_page_tells_nothing_of_origin_degradation_model_or_labels(content, html):
    allowed = {"clip", "showing", "instruction", "frames", "width", "height", "tiles", "image"}
    assert {key for clip in content["clips"] for key in clip} == allowed
    without_clips = re.sub(r"data:image[^\"]*", "", html)
    for word in (
        "premature_end",
        "degraded",
        "generated",
        "early_model",
        "full_marks",
        "crane",
        "provenance",
        "severity",
    ):
        assert word not in without_clips


def test_the_page_loads_nothing_and_is_whole(html, six):
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    Parser().feed(html)
    assert not [attrs for tag, attrs in found if tag in ("link", "img", "iframe") or "src" in attrs or "href" in attrs]
    policy = next(attrs["content"] for tag, attrs in found if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http://" not in html
    assert "https://" not in html
    inputs = [attrs for tag, attrs in found if tag == "input" and attrs.get("type") == "radio"]
    assert len(inputs) == sum(2 * maximum + 1 for maximum in six.max_scores)
    identities = [attrs["id"] for _, attrs in found if "id" in attrs]
    assert len(identities) == len(set(identities))
    for dimension in six.dimensions.values():
        assert dimension.rubric[:20] in html


def test_text_of_the_data_cannot_break_out_of_the_page(six):
    pairs = fake_pairs(3)
    pairs[0] = replace(pairs[0], instruction="</script><b>push</b>")
    html = render(study(pairs, fake_frames, [Showing(0, 1)], six, ""))
    assert "</script><b>" not in html
    text = re.search(r'<script type="application/json" id="study">(.*?)</script>', html, re.S).group(1)
    assert json.loads(text)["clips"][0]["instruction"] == "</script><b>push</b>"


def test_the_same_study_gives_the_same_page(content, html):
    assert render(content) == html


def test_scores_are_whole_and_half_points_and_the_maximum():
    assert steps(2.0) == [0, 0.5, 1, 1.5, 2]
    assert steps(0.75) == [0, 0.5, 0.75]


def test_large_frames_are_compressed_with_loss_and_giants_refused():
    rng = np.random.default_rng(0)
    big = rng.integers(0, 255, (2, 300, 300, 3), np.uint8)
    assert len(sheet(big).data) < len(sheet(big[:, :256, :256]).data)
    with pytest.raises(ValueError, match="do not fit"):
        sheet(np.zeros((1, 17_000, 4, 3), np.uint8))
