"""The section with rollouts: clips of the true future and of all models in step, which the script of the page plays."""

import re
from collections.abc import Iterable

from roboalign.frame_sheets import sheet
from roboalign.report.blocks import Block, ClipViewer, Prose, Section
from roboalign.report.inputs import Inputs, dimensions
from roboalign.report.names import title
from roboalign.report.scorers import scorer_words
from roboalign.report.showcases import TOTAL, Showcase, showcase_scorer
from roboalign.types import Json, UInt8

MAX_HEIGHT = 160
"""Maximum height of a frame in pixels; larger frames are reduced by an integer factor."""

QUALITY = 88
"""WebP quality of the frames."""

BUDGET = 24_000_000
"""Maximum size of all clips in bytes. Beyond it, episodes are left out, those chosen by total last."""


def rollouts(inputs: Inputs) -> Section:
    """The viewer of rollouts; empty without clips."""
    viewer = clip_viewer(inputs.showcases, inputs)
    if viewer is None:
        return Section("rollouts", "Rollouts", [])
    scorer = scorer_words(showcase_scorer(inputs.spec)).replace("total", "score")
    text = (
        "The first frame is recorded; all later frames are predicted from it and the recorded actions. Episodes are "
        "chosen by rule, not by hand: for each source, in the total and in each dimension, those whose rightmost clip "
        f"has the best, the median and the worst {scorer}. Numbers beside the titles are these scores."
    )
    blocks: list[Block] = [Prose([text]), viewer]
    return Section("rollouts", "Rollouts", blocks)


def clip_viewer(showcases: Iterable[Showcase], inputs: Inputs) -> ClipViewer | None:
    """The clips as sheets of frames, one file each, with their scores; None without episodes.

    Args:
        showcases: The episodes, the most important first.
        inputs: For the names of the dimensions and the frame rate.
    """
    files: dict[str, bytes] = {}
    titles: dict[str, str] = {}
    episodes: list[Json] = []
    for showcase in showcases:
        clips: list[Json] = []
        encoded: dict[str, bytes] = {}
        for column in showcase.columns:
            titles.setdefault(column.name, column.title)
            one = sheet(shrink(column.frames, MAX_HEIGHT), QUALITY)
            file = f"clips/{len(episodes):03d}_{file_name(showcase.episode)}/{file_name(column.name)}.webp"
            encoded[file] = one.data
            clips.append(
                {
                    "column": column.name,
                    "file": file,
                    "frames": one.frames,
                    "width": one.width,
                    "height": one.height,
                    "tiles": one.columns,
                    "scores": {name: round(value, 3) for name, value in column.scores.items()},
                }
            )
        if episodes and sum(map(len, files.values())) + sum(map(len, encoded.values())) > BUDGET:
            break
        files |= encoded
        episodes.append(
            {
                "id": showcase.episode,
                "source": showcase.source,
                "instruction": showcase.instruction,
                "cases": dict(showcase.cases),
                "clips": clips,
            }
        )
    if not episodes:
        return None
    maxima = {str(each["name"]): float(each["max_score"]) for each in dimensions(inputs)}
    names = {TOTAL: sum(maxima.values())} | maxima
    content: dict[str, Json] = {
        "fps": inputs.fps,
        "titles": titles,
        "dimensions": [{"name": name, "title": title(name), "maximum": value} for name, value in names.items()],
        "episodes": episodes,
    }
    return ClipViewer(content, files)


def shrink(frames: UInt8, height: int) -> UInt8:
    """Frames (T, H, W, 3) reduced by the smallest integer factor to at most `height` rows, by averaging blocks; rows
    and columns that do not fill a block are cut off."""
    factor = -(-frames.shape[1] // height)
    if factor == 1:
        return frames
    count, rows, columns = len(frames), frames.shape[1] // factor, frames.shape[2] // factor
    cut = frames[:, : rows * factor, : columns * factor].reshape(count, rows, factor, columns, factor, 3)
    averaged: UInt8 = cut.mean(axis=(2, 4)).round().astype("uint8")
    return averaged


def file_name(name: str) -> str:
    """A name with characters that file names should not have replaced by "_": `fetch/000012#1` is `fetch_000012_1`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"
