"""The contact sheet: one row per episode, with its frames over time, the recorded image and its crop, and the
actions."""

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
"""Colours of the action dimensions, repeated if there are more dimensions."""
MARGIN, GAP, WIDE = 28, 6, 8
MIN_CHART_WIDTH = 200
"""Minimum width of the chart of the actions in pixels."""
MIN_SHEET_WIDTH = 1120
"""Minimum width of the sheet in pixels."""

Font = ImageFont.FreeTypeFont


def save(preview: SourcePreview, summary: Summary, path: Path) -> None:
    """Write the sheet as PNG. Raises SourceError if there is no episode to draw."""
    image = draw_sheet(preview, summary)
    with replacing(path) as temporary:
        image.save(temporary, "PNG", optimize=True)


def draw_sheet(preview: SourcePreview, summary: Summary) -> Image.Image:
    """Draw the sheet. Deterministic. Raises SourceError if there is no episode to draw."""
    candidates = [episode for episode in preview.episodes if episode.frames]
    rows = choose_rows(candidates)
    if not rows:
        raise SourceError(f"{summary.uri} has no episode to draw")
    recorded_width = max((row.recorded_image.shape[1] for row in rows if row.recorded_image is not None), default=0)
    cell = max(frame.shape[1] for row in rows for frame in row.frames)
    high = max(frame.shape[0] for row in rows for frame in row.frames)
    high = max(high, CELL if recorded_width else 0)
    columns = max(len(row.frames) for row in rows)
    left = MARGIN + (recorded_width + 3 * WIDE if recorded_width else 0)
    chart = left + columns * (cell + GAP) + WIDE
    width = max(MIN_SHEET_WIDTH, chart + MIN_CHART_WIDTH + MARGIN)
    top, row_height = 124, high + 58
    image = Image.new("RGB", (width, top + row_height * len(rows) + 20), PAPER)
    draw = ImageDraw.Draw(image)
    draw_header(draw, summary, width)
    draw_label(draw, left, top - 30, "frames over time, as the model sees them")
    draw_legend(draw, summary, chart, top - 30)
    if recorded_width:
        draw_label(draw, MARGIN, top - 30, "first, as recorded" if recorded_width > 150 else "recorded")
    for number, row in enumerate(rows):
        y = top + number * row_height
        draw_caption(draw, row, summary, y, width)
        if row.recorded_image is not None:
            paste(image, row.recorded_image, MARGIN, y + 40)
        for column, frame in enumerate(row.frames):
            x = left + column * (cell + GAP)
            paste(image, frame, x, y + 40)
            draw.text((x + 5, y + 42), str(row.numbers[column]), PAPER, font(12), stroke_width=2, stroke_fill=INK)
        draw_actions(draw, row, summary, (chart, y + 40, width - MARGIN - 1, y + 39 + high))
    return image


def choose_rows(candidates: list[EpisodePreview]) -> list[EpisodePreview]:
    """Choose the episodes of the sheet: kept ones at even distances, filled up with left-out ones."""
    kept = [episode for episode in candidates if not episode.left_out]
    left_out = [episode for episode in candidates if episode.left_out]
    if len(kept) < ROWS:
        return [*kept, *left_out][:ROWS]
    return [kept[index * len(kept) // ROWS] for index in range(ROWS)]


def draw_header(draw: ImageDraw.ImageDraw, summary: Summary, width: int) -> None:
    """Draw the title and the counts."""
    draw.text((MARGIN, 20), summary.source, INK, font(26, bold=True))
    beside = MARGIN + draw.textlength(summary.source, font(26, bold=True)) + 14
    draw.text(
        (beside, 31), fit_text(draw, f"{summary.kind} · {summary.uri}", width - beside - MARGIN, 14), SOFT, font(14)
    )
    sizes = ", ".join(list(summary.sizes)[:3])
    images = f"{sizes} → {summary.size}" if summary.fit else summary.size
    left_out = sum(summary.left_out.values())
    facts = [
        summary.selection.split(";")[0],
        f"{summary.kept} kept" + (f", {left_out} left out" if left_out else "") + f", {summary.damaged} damaged",
        f"{summary.fps:g} frames a second",
        images + (f" ({summary.fit})" if summary.fit else ""),
        f"{len(summary.actions)} action dimensions",
        f"{summary.instructions} instruction{'s'[: summary.instructions != 1]}",
    ]
    draw.text((MARGIN, 60), fit_text(draw, "  ·  ".join(facts), width - 2 * MARGIN, 14), INK, font(14))


def draw_label(draw: ImageDraw.ImageDraw, x: int, y: int, text: str) -> None:
    """Draw the heading of a column."""
    draw.text((x, y), text, SOFT, font(12))


def draw_legend(draw: ImageDraw.ImageDraw, summary: Summary, x: float, y: int) -> None:
    """Draw the heading of the chart of the actions: the index of each dimension in its colour."""
    draw_label(draw, int(x), y, "actions")
    x += draw.textlength("actions  ", font(12))
    for index in range(min(len(summary.actions), 10)):
        draw.text((x, y), str(index), COLOURS[index % len(COLOURS)], font(12, bold=True))
        x += draw.textlength(f"{index} ", font(12, bold=True))


def draw_caption(draw: ImageDraw.ImageDraw, episode: EpisodePreview, summary: Summary, y: int, width: int) -> None:
    """Draw the instruction of an episode, and its name, length and attributes next to it."""
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
    # The instruction takes at most three quarters of the width.
    text = fit_text(draw, episode.instruction, room * 0.75, 16, bold=True)
    notes = fit_text(draw, notes, room - draw.textlength(text, font(16, bold=True)) - 14, 13)
    draw.text((MARGIN, y + 9), text, INK, font(16, bold=True))
    draw.text((MARGIN + draw.textlength(text, font(16, bold=True)) + 14, y + 12), notes, SOFT, font(13))


def draw_actions(
    draw: ImageDraw.ImageDraw, episode: EpisodePreview, summary: Summary, box: tuple[int, int, int, int]
) -> None:
    """Draw the action dimensions over time, each scaled from the lower to the upper end of its range."""
    left, top, right, bottom = box
    draw.rectangle(box, outline=LINE)
    draw.line((left, (top + bottom) / 2, right, (top + bottom) / 2), LINE)
    steps = (
        np.linspace(left + 3, right - 3, len(episode.actions)) if len(episode.actions) > 1 else np.array([left + 3.0])
    )
    for index, dimension in enumerate(summary.actions):
        range_width = dimension.high - dimension.low
        if range_width <= 0:
            continue
        heights = np.clip((episode.actions[:, index] - dimension.low) / range_width, 0, 1)
        points = list(zip(steps.tolist(), (bottom - 4 - heights * (bottom - top - 8)).tolist(), strict=True))
        draw.line(points, COLOURS[index % len(COLOURS)], 1, joint="curve")


def paste(image: Image.Image, pixels: UInt8, x: int, y: int) -> None:
    """Paste an image (H, W, 3) with its top left corner at (x, y)."""
    image.paste(Image.fromarray(pixels), (x, y))


def fit_text(draw: ImageDraw.ImageDraw, text: str, room: float, size: int, *, bold: bool = False) -> str:
    """Return the text, truncated to a width in pixels."""
    text = " ".join(text.split())
    if draw.textlength(text, font(size, bold=bold)) <= room:
        return text
    while text and draw.textlength(f"{text}…", font(size, bold=bold)) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


@cache
def font(size: int, *, bold: bool = False) -> Font:
    """Load DejaVu Sans, which matplotlib ships and which covers most alphabets."""
    package = find_spec("matplotlib")
    assert package is not None
    assert package.origin is not None
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(package.origin).parent / "mpl-data/fonts/ttf" / name), size)
