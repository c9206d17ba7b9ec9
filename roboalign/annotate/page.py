"""The study as one HTML page that needs nothing but itself: clips, rubric, script."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

import jinja2
import numpy as np

from roboalign.annotate.sample import Showing
from roboalign.annotate.sheets import pad_sheets, sheet
from roboalign.bench.pairs import Pair
from roboalign.reward.spec import DimensionSpec, RewardSpec
from roboalign.types import Json, UInt8

STEP = 0.5
"""Points between two neighbouring scores that can be given. Our choice."""


def steps(maximum: float) -> list[float]:
    """The scores that can be given in a dimension: whole and half points, and the maximum."""
    values = [float(value) for value in np.arange(0, maximum, STEP)]
    return [*values, float(maximum)]


def plain(value: float) -> int | float:
    """2.0 as 2: scores read as they are typed."""
    return int(value) if float(value).is_integer() else value


def study(
    pairs: Sequence[Pair],
    frames: Callable[[int], UInt8],
    showings: Sequence[Showing],
    reward: RewardSpec,
    rater: str,
    answers: Mapping[str, Mapping[int, Mapping[str, float]]] | None = None,
) -> dict[str, Json]:
    """What the page knows. Of each clip: its id, its instruction and its frames; nothing of its origin or its scores.

    `frames` gives the clip of a pair by its number. With `answers`, by rater and place, the page is a served one.
    """
    rows = sorted({showing.row for showing in showings})
    sheets = {row: sheet(frames(row)) for row in rows}
    pictures = dict(zip(rows, pad_sheets([sheets[row] for row in rows]), strict=True))
    clips = [
        {
            "clip": pairs[showing.row].id,
            "showing": showing.showing,
            "instruction": pairs[showing.row].instruction,
            "frames": sheets[showing.row].frames,
            "width": sheets[showing.row].width,
            "height": sheets[showing.row].height,
            "columns": sheets[showing.row].columns,
            "sheet": "data:image/webp;base64," + base64.b64encode(pictures[showing.row]).decode("ascii"),
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
    return {
        "number": number,
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "maximum": plain(spec.max_score),
        "rubric": spec.rubric,
        "steps": [plain(step) for step in steps(spec.max_score)],
    }


def render(content: Mapping[str, Json]) -> str:
    """The page of a `study`. The same study gives the same text."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    folder = files("roboalign.annotate")
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        study=content,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
    )
