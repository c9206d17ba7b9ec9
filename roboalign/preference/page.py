"""The study as one self-contained HTML page, which does not say which model made a clip."""

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files

import jinja2

from roboalign.frame_sheets import pad_sheets, sheet
from roboalign.preference.sample import StudyKey
from roboalign.types import Json, UInt8


def page_content(
    key: StudyKey, frames: Callable[[str, str], UInt8], instructions: dict[str, str], fps: float
) -> dict[str, Json]:
    """The content of the page: each pair with its instruction, and the clips as images.

    Args:
        key: The pairs.
        frames: The frames (T, H, W, 3) of a clip by episode and clip set.
        instructions: The instruction of each episode.
        fps: Frames per second.
    """
    clips = list(dict.fromkeys((pair.episode, name) for pair in key.pairs for name in sorted((pair.a, pair.b))))
    # In an order that does not tell the clip set.
    clips.sort(key=lambda clip: (clip[0], hash_of(key.study, *clip)))
    sheets = [sheet(frames(*clip)) for clip in clips]
    images = pad_sheets(sheets)
    numbers = {clip: number for number, clip in enumerate(clips)}
    return {
        "study": key.study,
        "fps": fps,
        "clips": [
            {
                "image": "data:image/webp;base64," + base64.b64encode(image).decode("ascii"),
                "frames": one.frames,
                "width": one.width,
                "height": one.height,
                "tiles": one.columns,
            }
            for one, image in zip(sheets, images, strict=True)
        ],
        "pairs": [
            {
                "id": pair.id,
                "instruction": instructions[pair.episode],
                "a": numbers[pair.episode, pair.a],
                "b": numbers[pair.episode, pair.b],
            }
            for pair in key.pairs
        ],
    }


def hash_of(*texts: str) -> str:
    """A hash of texts, for an order that depends on the study but not on names."""
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=8).hexdigest()


def render(content: dict[str, Json]) -> str:
    """Render the page as HTML; deterministic. Style and player are those of the other pages."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    folder = files("roboalign.preference")
    styles = (files("roboalign.annotate") / "page.css", folder / "page.css")
    scripts = (files("roboalign.report") / "clip_player.js", folder / "page.js")
    return environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8")).render(
        content=content,
        style="\n".join(file.read_text(encoding="utf-8") for file in styles),
        script="\n".join(file.read_text(encoding="utf-8") for file in scripts),
    )
