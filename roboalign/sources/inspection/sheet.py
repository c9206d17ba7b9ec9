"""The contact sheet: a row an episode, its frames over time, what the crop cuts off, and its actions."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from roboalign.io import replacing
from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.preview import CELL, ROWS, EpisodePreview, SourcePreview
from roboalign.sources.inspection.summary import Summary
from roboalign.types import UInt8

INK, SOFT, LINE, PAPER, AMBER = (28, 32, 38), (112, 120, 130), (226, 229, 233), (255, 255, 255), (176, 104, 0)
COLOURS = (
    (31, 119, 180), (214, 84, 39), (44, 140, 60), (148, 78, 170), (190, 150, 20), (20, 150, 160), (200, 60, 110),
)  # fmt: skip
"""Of the actions' lines, in turn."""
MARGIN, GAP, WIDE = 28, 6, 8
CHART = 200
"""Width of the actions' chart at least."""
LEAST = 1120
"""Width of the sheet at least."""

Font = ImageFont.FreeTypeFont


def save(preview: SourcePreview, summary: Summary, path: Path) -> None:
    """Write the sheet as PNG. Raises SourceError if there is nothing to draw."""
    image = draw_sheet(preview, summary)
    with replacing(path) as temporary:
        image.save(temporary, "PNG", optimize=True)


def draw_sheet(preview: SourcePreview, summary: Summary) -> Image.Image:
    """The sheet. Pure: the same episodes give the same picture."""
    found = [episode for episode in preview.episodes if episode.frames]
    rows = choose_rows(found)
    if not rows:
        raise SourceError(f"{summary.uri} gives no episode to draw a sheet of")
    first = max((row.first_recorded.shape[1] for row in rows if row.first_recorded is not None), default=0)
    cell = max(frame.shape[1] for row in rows for frame in row.frames)
    high = max(frame.shape[0] for row in rows for frame in row.frames)
    high = max(high, CELL if first else 0)
    columns = max(len(row.frames) for row in rows)
    left = MARGIN + (first + 3 * WIDE if first else 0)
    chart = left + columns * (cell + GAP) + WIDE
    width = max(LEAST, chart + CHART + MARGIN)
    top, each = 124, high + 58
    image = Image.new("RGB", (width, top + each * len(rows) + 20), PAPER)
    draw = ImageDraw.Draw(image)
    head(draw, summary, width)
    label(draw, left, top - 30, "frames over time, as the model sees them")
    legend(draw, summary, chart, top - 30)
    if first:
        label(draw, MARGIN, top - 30, "first, as recorded" if first > 150 else "recorded")
    for number, row in enumerate(rows):
        y = top + number * each
        caption(draw, row, summary, y, width)
        if row.first_recorded is not None:
            paste(image, row.first_recorded, MARGIN, y + 40)
        for place, frame in enumerate(row.frames):
            x = left + place * (cell + GAP)
            paste(image, frame, x, y + 40)
            draw.text((x + 5, y + 42), str(row.numbers[place]), PAPER, font(12), stroke_width=2, stroke_fill=INK)
        lines(draw, row, summary, (chart, y + 40, width - MARGIN - 1, y + 39 + high))
    return image


def choose_rows(found: list[EpisodePreview]) -> list[EpisodePreview]:
    """The rows of the sheet: kept episodes at even distances; what is left out only fills up."""
    kept = [episode for episode in found if not episode.left_out]
    rest = [episode for episode in found if episode.left_out]
    if len(kept) < ROWS:
        return [*kept, *rest][:ROWS]
    return [kept[index * len(kept) // ROWS] for index in range(ROWS)]


def head(draw: ImageDraw.ImageDraw, summary: Summary, width: int) -> None:
    """Title and figures."""
    draw.text((MARGIN, 20), summary.source, INK, font(26, bold=True))
    beside = MARGIN + draw.textlength(summary.source, font(26, bold=True)) + 14
    draw.text(
        (beside, 31), fit_text(draw, f"{summary.kind} · {summary.uri}", width - beside - MARGIN, 14), SOFT, font(14)
    )
    sizes = ", ".join(list(summary.sizes)[:3])
    pictures = f"{sizes} → {summary.size}" if summary.fit else summary.size
    out = sum(summary.left_out.values())
    facts = [
        summary.looked_at.split(";")[0],
        f"{summary.kept} kept" + (f", {out} left out" if out else "") + f", {summary.damaged} damaged",
        f"{summary.fps:g} frames a second",
        pictures + (f" ({summary.fit})" if summary.fit else ""),
        f"{len(summary.actions)} action dimensions",
        f"{summary.instructions} instruction{'s'[: summary.instructions != 1]}",
    ]
    draw.text((MARGIN, 60), fit_text(draw, "  ·  ".join(facts), width - 2 * MARGIN, 14), INK, font(14))


def label(draw: ImageDraw.ImageDraw, x: int, y: int, text: str) -> None:
    """The heading of a column."""
    draw.text((x, y), text, SOFT, font(12))


def legend(draw: ImageDraw.ImageDraw, summary: Summary, x: float, y: int) -> None:
    """The heading of the actions' chart: the dimensions' numbers in their colours."""
    label(draw, int(x), y, "actions")
    x += draw.textlength("actions  ", font(12))
    for index in range(min(len(summary.actions), 10)):
        draw.text((x, y), str(index), COLOURS[index % len(COLOURS)], font(12, bold=True))
        x += draw.textlength(f"{index} ", font(12, bold=True))


def caption(draw: ImageDraw.ImageDraw, episode: EpisodePreview, summary: Summary, y: int, width: int) -> None:
    """The instruction, and beside it what else is known."""
    draw.line((MARGIN, y, width - MARGIN, y), LINE)
    notes = f"{episode.name} · {episode.length} frames, {episode.length / summary.fps:.1f} s"
    if episode.split:
        notes += f" · {episode.split}"
    notes += "".join(
        f" · {key} {episode.attributes[key]}" for key in ("policy", "success") if key in episode.attributes
    )
    state = f"left out by {episode.left_out}" if episode.left_out else ""
    end = width - MARGIN - draw.textlength(state, font(13, bold=True))
    draw.text((end, y + 12), state, AMBER, font(13, bold=True))
    room = end - MARGIN - 20
    # The instruction comes first, but never takes all.
    text = fit_text(draw, episode.instruction, room * 0.75, 16, bold=True)
    notes = fit_text(draw, notes, room - draw.textlength(text, font(16, bold=True)) - 14, 13)
    draw.text((MARGIN, y + 9), text, INK, font(16, bold=True))
    draw.text((MARGIN + draw.textlength(text, font(16, bold=True)) + 14, y + 12), notes, SOFT, font(13))


def lines(draw: ImageDraw.ImageDraw, episode: EpisodePreview, summary: Summary, box: tuple[int, int, int, int]) -> None:
    """The actions' dimensions, each from the lower to the upper end of its range."""
    left, top, right, bottom = box
    draw.rectangle(box, outline=LINE)
    draw.line((left, (top + bottom) / 2, right, (top + bottom) / 2), LINE)
    steps = (
        np.linspace(left + 3, right - 3, len(episode.actions)) if len(episode.actions) > 1 else np.array([left + 3.0])
    )
    for index, dimension in enumerate(summary.actions):
        span = dimension.high - dimension.low
        if span <= 0:
            continue
        share = np.clip((episode.actions[:, index] - dimension.low) / span, 0, 1)
        points = list(zip(steps.tolist(), (bottom - 4 - share * (bottom - top - 8)).tolist(), strict=True))
        draw.line(points, COLOURS[index % len(COLOURS)], 1, joint="curve")


def paste(image: Image.Image, picture: UInt8, x: int, y: int) -> None:
    """Put a picture somewhere."""
    image.paste(Image.fromarray(picture), (x, y))


def fit_text(draw: ImageDraw.ImageDraw, text: str, room: float, size: int, *, bold: bool = False) -> str:
    """The text, cut to a width in pixels."""
    text = " ".join(text.split())
    if draw.textlength(text, font(size, bold=bold)) <= room:
        return text
    while text and draw.textlength(f"{text}…", font(size, bold=bold)) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


@cache
def font(size: int, *, bold: bool = False) -> Font:
    """DejaVu Sans, which matplotlib brings along: it has the letters of most languages."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(found.origin).parent / "mpl-data/fonts/ttf" / name), size)
