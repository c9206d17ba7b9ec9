"""Clips for raters and for other benchmarks: `python -m roboalign bench export FOLDER`.

```
FOLDER/README.md          the task, the rubric, and the form of the answers
FOLDER/bench.json         layout, split and dimensions, by roboalign/bench/exported.py
FOLDER/clips.jsonl        one clip a line: id, instruction, files; and unless blind its scores and its recipe
FOLDER/schema.json        the JSON Schema of the two
FOLDER/clips/<id>.mp4     layout `videos`: the clip, small frames enlarged
FOLDER/strips/<id>.png    frames of it side by side, for models that read images
FOLDER/<source>/          layout `lerobot`: a LeRobotDataset 3 of the clips of one source
```

The answers, one JSON object a line (see roboalign/bench/annotations.py), are listed under `annotations` of the bench's
spec.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from roboalign.bench.annotations import Annotation
from roboalign.bench.exported import ExportedBench, ExportedClip, ExportedDimension, write_listing
from roboalign.bench.pairs import Bench, Pair
from roboalign.io import replacing, round_floats, write_text
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus, EpisodeWriter
from roboalign.store.spec import StorageSpec
from roboalign.store.video import encode_clip
from roboalign.types import Episode, Split, UInt8

GAP = 2
"""Pixels between two frames and between two clips of a strip."""

MIN_ROWS = 128
"""Smaller frames are enlarged by a whole factor to at least this many rows."""

QUALITY = StorageSpec(kind="h264", crf=12)
"""Nearly lossless, so that raters do not rate the compression."""


def export(
    folder: Path,
    bench: Bench,
    rows: Sequence[int],
    reward: RewardSpec,
    corpus: Corpus,
    *,
    blind: bool,
    layout: Literal["videos", "lerobot"] = "videos",
) -> None:
    """Write clips into a folder.

    Args:
        folder: The folder.
        bench: The bench.
        rows: Indices of its pairs, of one split.
        reward: The reward whose dimensions are rated.
        corpus: The recorded episodes, which know the frame rates.
        blind: Leave out scores and recipes.
        layout: Videos and strips of frames, or one LeRobotDataset 3 a source.
    """
    write = write_videos if layout == "videos" else write_datasets
    clips = [
        _with_label(clip, bench.pairs[row], reward, blind=blind) for row, clip in write(folder, bench, rows, corpus)
    ]
    dimensions = {
        name: ExportedDimension(max_score=d.max_score, rubric=d.rubric) for name, d in reward.dimensions.items()
    }
    header = ExportedBench(
        layout=layout, split=bench.pairs[rows[0]].split, blind=blind, clips=len(clips), dimensions=dimensions
    )
    write_listing(folder, header, clips)
    write_text(folder / "README.md", write_guide(reward, len(rows), layout))


def write_videos(folder: Path, bench: Bench, rows: Sequence[int], corpus: Corpus) -> Iterator[tuple[int, ExportedClip]]:
    """Write a video and a strip of each pair; the pairs with their entries."""
    rates = corpus.frame_rates()
    for row in rows:
        pair, frames = bench.pairs[row], bench.frames(row)
        video, strip = f"clips/{pair.id}.mp4", f"strips/{pair.id}.png"
        _write_video(folder / video, frames, rates[pair.source])
        save_png(folder / strip, draw_strip([frames]))
        yield row, _entry(pair, len(frames), rates[pair.source]).model_copy(update={"video": video, "strip": strip})


def write_datasets(
    folder: Path, bench: Bench, rows: Sequence[int], corpus: Corpus
) -> Iterator[tuple[int, ExportedClip]]:
    """Write a LeRobotDataset 3 of the clips of each source, an episode a clip; the pairs with their entries.

    Frames are lossless up to 64 pixels. The last action of an episode, which leads beyond the clip, is 0.
    """
    rates = corpus.frame_rates()
    for source in corpus.sources:
        own = [row for row in rows if bench.pairs[row].source == source]
        if not own:
            continue
        width = len(corpus.ranges[source].low)
        clips: list[ExportedClip] = []
        with EpisodeWriter(folder / source, fps=rates[source]) as writer:
            for episode, row in enumerate(own):
                pair, (frames, actions) = bench.pairs[row], bench.clip(row)
                padded = np.pad(actions[:, :width], ((0, 1), (0, 0)))
                writer.add(
                    Episode(
                        id=pair.id, source=source, task=source, instruction=pair.instruction, policy="unknown",
                        scene=pair.id, split=pair.split, frames=frames, actions=padded,
                    )
                )  # fmt: skip
                entry = _entry(pair, len(frames), rates[source])
                clips.append(entry.model_copy(update={"dataset": source, "episode": episode}))
        yield from zip(own, clips, strict=True)


def choose_pairs(pairs: Sequence[Pair], split: Split, clips: int) -> list[int]:
    """The indices of `clips` different pairs of a split (0: all) that judges may see, in the order of their ids.

    Ids are hashes, so this is as good as random, and a shorter list is the beginning of a longer one.
    """
    rows = {pair.id: number for number, pair in enumerate(pairs) if pair.split == split and pair.judged}
    ordered = [rows[name] for name in sorted(rows)]
    return ordered[:clips] if clips else ordered


def _entry(pair: Pair, frames: int, fps: float) -> ExportedClip:
    return ExportedClip(clip=pair.id, instruction=pair.instruction, frames=frames, fps=fps)


def _with_label(clip: ExportedClip, pair: Pair, reward: RewardSpec, *, blind: bool) -> ExportedClip:
    """The entry with the pair's recipe and scores, unless blind."""
    if blind:
        return clip
    return clip.model_copy(
        update={
            "source": pair.source,
            "origin": pair.origin,
            "degradation": pair.degradation,
            "severity": pair.severity,
            "model": pair.model,
            "provenance": pair.provenance,
            "scores": round_floats(dict(zip(reward.names, pair.scores, strict=True))),
            "faithful": round_floats(dict(zip(reward.names, pair.faithful, strict=True))),
        }
    )


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


SHOWN_AS = {
    "videos": "as a video and as a strip of its frames",
    "lerobot": "as an episode of a LeRobotDataset 3 (`dataset`, `episode`)",
}
"""How a clip of each layout can be watched."""


def write_guide(reward: RewardSpec, clips: int, layout: Literal["videos", "lerobot"] = "videos") -> str:
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
            f"Each line of `clips.jsonl` names a clip of a robot, {SHOWN_AS[layout]}, and the instruction that the "
            "robot was given. Watch the clip, then score each dimension on its own:",
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
