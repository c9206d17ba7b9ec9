"""Clips for raters: `python -m roboalign bench export FOLDER`.

```
FOLDER/README.md          the task, the rubric, and the form of the answers
FOLDER/clips.jsonl        one clip a line: id, instruction, files; and unless blind its scores and its recipe
FOLDER/clips/<id>.mp4     the clip, small frames enlarged
FOLDER/strips/<id>.png    frames of it side by side, for models that read images
```

The answers, one JSON object a line (see roboalign/bench/annotations.py), are listed under `annotations` of the bench's
spec.
"""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from roboalign.bench.annotations import Annotation
from roboalign.bench.pairs import Bench, Pair
from roboalign.io import replacing, round_floats, write_text
from roboalign.reward.spec import RewardSpec
from roboalign.store.spec import StorageSpec
from roboalign.store.video import encode_clip
from roboalign.types import Json, Split, UInt8

GAP = 2
"""Pixels between two frames and between two clips of a strip."""

MIN_ROWS = 128
"""Smaller frames are enlarged by a whole factor to at least this many rows."""

QUALITY = StorageSpec(kind="h264", crf=12)
"""Nearly lossless, so that raters do not rate the compression."""


def export(folder: Path, bench: Bench, rows: Sequence[int], reward: RewardSpec, fps: float, *, blind: bool) -> None:
    """Write clips into a folder.

    Args:
        folder: The folder.
        bench: The bench.
        rows: Indices of its pairs.
        reward: The reward whose dimensions are rated.
        fps: Frames per second of the videos.
        blind: Leave out scores and recipes.
    """
    lines: list[str] = []
    for row in rows:
        pair, frames = bench.pairs[row], bench.frames(row)
        _write_video(folder / f"clips/{pair.id}.mp4", frames, fps)
        save_png(folder / f"strips/{pair.id}.png", draw_strip([frames]))
        lines.append(json.dumps(_entry(pair, len(frames), reward, blind=blind), ensure_ascii=False))
    write_text(folder / "clips.jsonl", "".join(line + "\n" for line in lines))
    write_text(folder / "README.md", write_guide(reward, len(rows)))


def choose_pairs(pairs: Sequence[Pair], split: Split, clips: int) -> list[int]:
    """The indices of `clips` different pairs of a split (0: all) that judges may see, in the order of their ids.

    Ids are hashes, so this is as good as random, and a shorter list is the beginning of a longer one.
    """
    rows = {pair.id: number for number, pair in enumerate(pairs) if pair.split == split and pair.judged}
    ordered = [rows[name] for name in sorted(rows)]
    return ordered[:clips] if clips else ordered


def _entry(pair: Pair, frames: int, reward: RewardSpec, *, blind: bool) -> dict[str, Json]:
    entry: dict[str, Json] = {
        "clip": pair.id,
        "instruction": pair.instruction,
        "video": f"clips/{pair.id}.mp4",
        "strip": f"strips/{pair.id}.png",
        "frames": frames,
    }
    if blind:
        return entry
    return entry | {
        "source": pair.source,
        "origin": pair.origin,
        "degradation": pair.degradation,
        "severity": pair.severity,
        "model": pair.model,
        "provenance": pair.provenance,
        "scores": round_floats(dict(zip(reward.names, pair.scores, strict=True))),
    }


def _write_video(path: Path, frames: UInt8, fps: float) -> None:
    """Write frames as mp4, enlarged to at least MIN_ROWS rows; H.264 needs even sides, so odd ones lose a row."""
    factor = -(-MIN_ROWS // frames.shape[1])
    large = frames.repeat(factor, 1).repeat(factor, 2)
    even = np.ascontiguousarray(large[:, : large.shape[1] // 2 * 2, : large.shape[2] // 2 * 2])
    with replacing(path) as temporary:
        temporary.write_bytes(encode_clip(even, Fraction(fps).limit_denominator(1000), "h264", QUALITY))


def draw_strip(clips: Sequence[UInt8], columns: int = 8) -> UInt8:
    """One row a clip (T, H, W, 3), with up to `columns` frames at the same times; black after the end of a clip."""
    length, height = max(len(clip) for clip in clips), clips[0].shape[1]
    numbers = np.unique(np.linspace(0, length - 1, columns).round().astype(np.int64))
    factor = -(-MIN_ROWS // height)
    rows: list[UInt8] = []
    for clip in clips:
        cells = [clip[number] if number < len(clip) else np.zeros_like(clip[0]) for number in numbers]
        row = np.concatenate([_append_gap(cell.repeat(factor, 0).repeat(factor, 1), 1) for cell in cells], axis=1)
        rows.append(_append_gap(row, 0))
    return np.concatenate(rows)


def _append_gap(image: UInt8, axis: int) -> UInt8:
    """An image with a grey gap to its right (axis 1) or below it (axis 0)."""
    shape = list(image.shape)
    shape[axis] = GAP
    return np.concatenate([image, np.full(shape, 128, np.uint8)], axis=axis)


def save_png(path: Path, image: UInt8) -> None:
    """Write an image (H, W, 3) as PNG."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG", optimize=True)


def write_guide(reward: RewardSpec, clips: int) -> str:
    """The instructions for raters, as Markdown."""
    example = Annotation(
        clip="0123456789abcdef",
        rater="your name",
        kind="person",
        scores=dict(zip(reward.names, reward.max_scores, strict=True)),
    )
    return "\n".join(
        [
            f"# {clips} clips to score",
            "",
            "Each line of `clips.jsonl` names a clip of a robot, as a video and as a strip of its frames, and the "
            "instruction that the robot was given. Watch the clip, then score each dimension on its own:",
            "",
            *(f"- **{name}**, 0 to {d.max_score:g}. {d.rubric}" for name, d in reward.dimensions.items()),
            "",
            "Parts of points are fine. Write one line for each clip to a `.jsonl` file, in this form (`kind` is "
            "`person` or `vlm`; `comment` may be left out):",
            "",
            "```json",
            example.line().strip(),
            "```",
            "",
            "The bench reads the file when its spec names it under `annotations`.",
            "",
        ]
    )
