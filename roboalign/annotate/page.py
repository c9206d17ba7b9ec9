"""The study as one self-contained HTML page with clips, rubric and script."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

import jinja2
import numpy as np

from roboalign.annotate.sample import Showing
from roboalign.bench.pairs import Pair
from roboalign.frame_sheets import pad_sheets, sheet
from roboalign.reward.spec import DimensionSpec, RewardSpec
from roboalign.types import Json, UInt8

STEP = 0.5
"""Difference between neighbouring scores that can be given, in points (our choice)."""


def steps(max_score: float) -> list[float]:
    """The scores that can be given in a dimension: whole and half points, and the maximum."""
    values = [float(value) for value in np.arange(0, max_score, STEP)]
    return [*values, float(max_score)]


def plain(value: float) -> int | float:
    """Convert whole numbers to int, so that scores are shown as they are typed."""
    return int(value) if float(value).is_integer() else value


def study(
    pairs: Sequence[Pair],
    frames: Callable[[int], UInt8],
    showings: Sequence[Showing],
    reward: RewardSpec,
    rater: str,
    answers: Mapping[str, Mapping[int, Mapping[str, float]]] | None = None,
) -> dict[str, Json]:
    """The content of the page. A clip has its id, instruction and frames, but not its origin or scores.

    Args:
        pairs: The bench's pairs.
        frames: Reads the frames of a pair by its number.
        showings: The clips in order.
        reward: The dimensions.
        rater: Name of the rater.
        answers: Saved scores by rater and place, for a served page; None for a page that is a file.
    """
    rows = sorted({showing.row for showing in showings})
    sheets = {row: sheet(frames(row)) for row in rows}
    images = dict(zip(rows, pad_sheets([sheets[row] for row in rows]), strict=True))
    clips = [
        {
            "clip": pairs[showing.row].id,
            "showing": showing.showing,
            "instruction": pairs[showing.row].instruction,
            "frames": sheets[showing.row].frames,
            "width": sheets[showing.row].width,
            "height": sheets[showing.row].height,
            "tiles": sheets[showing.row].columns,
            "image": "data:image/webp;base64," + base64.b64encode(images[showing.row]).decode("ascii"),
        }
        for showing in showings
    ]
    text = " ".join([*reward.names, *(f"{clip['clip']}/{clip['showing']}" for clip in clips)])
    return {
        "id": hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
        "rater": rater,
        "served": answers is not None,
        "answers": {} if answers is None else answers,
        "dimensions": [_dimension(number, *each) for number, each in enumerate(reward.dimensions.items())],
        "clips": clips,
    }


def _dimension(number: int, name: str, spec: DimensionSpec) -> dict[str, Json]:
    """A dimension as the page needs it."""
    return {
        "number": number,
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "maximum": plain(spec.max_score),
        "rubric": spec.rubric,
        "steps": [plain(step) for step in steps(spec.max_score)],
    }


def render(content: Mapping[str, Json]) -> str:
    """Render the page of a `study` as HTML; deterministic. The player is that of the report."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    folder = files("roboalign.annotate")
    scripts = (files("roboalign.report") / "clip_player.js", folder / "page.js")
    return environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8")).render(
        study=content,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script="\n".join(file.read_text(encoding="utf-8") for file in scripts),
    )
