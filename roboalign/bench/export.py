"""Clips to be labelled elsewhere: `python -m roboalign bench export FOLDER`.

```
FOLDER/README.md          what to do: the instruction, the rubric, and the form of the answers
FOLDER/clips.jsonl        one clip a line: id, instruction, files; and unless blind its scores and where it comes from
FOLDER/clips/<id>.mp4     the clip, small frames enlarged
FOLDER/strips/<id>.png    frames of it side by side, for models that read pictures
```

The answers, one JSON object a line (see roboalign/bench/annotations.py), are what `annotations` of the bench's spec
names.
"""

import json
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import yaml

from roboalign.bench.annotations import Annotation
from roboalign.bench.pairs import Bench, Pair
from roboalign.bench.pictures import LOWEST, save, strip
from roboalign.io import replacing, round_floats, write_text
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus, EpisodeStore
from roboalign.store.spec import StorageSpec
from roboalign.store.video import encode_clip
from roboalign.types import Json, Split, UInt8

STILLS = 8
"""Frames of a strip."""

QUALITY = StorageSpec(kind="h264", crf=12)
"""Hardly any loss: labels must not be about compression."""


def choose_pairs(pairs: Sequence[Pair], split: Split, clips: int) -> list[int]:
    """The numbers of `clips` pairs of a split (0: all) that judges may see, each clip once, in the order of their ids:
    that is as good as random, and the first ones of a longer list are those of a shorter one."""
    rows = {pair.id: number for number, pair in enumerate(pairs) if pair.split == split and pair.judged}
    ordered = [rows[name] for name in sorted(rows)]
    return ordered[:clips] if clips else ordered


def export(folder: Path, bench: Bench, rows: Sequence[int], reward: RewardSpec, fps: float, *, blind: bool) -> None:
    """Write the pairs `rows` into `folder`."""
    lines: list[str] = []
    for row in rows:
        pair, frames = bench.pairs[row], bench.frames(row)
        _write_video(folder / f"clips/{pair.id}.mp4", frames, fps)
        save(folder / f"strips/{pair.id}.png", strip([frames], STILLS))
        lines.append(json.dumps(_entry(pair, len(frames), reward, blind=blind), ensure_ascii=False))
    write_text(folder / "clips.jsonl", "".join(line + "\n" for line in lines))
    write_text(folder / "README.md", guide(reward, len(rows)))


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
    """The frames as mp4, enlarged by a whole factor to at least LOWEST rows; odd sides lose their last row."""
    factor = -(-LOWEST // frames.shape[1])
    large = frames.repeat(factor, 1).repeat(factor, 2)
    even = np.ascontiguousarray(large[:, : large.shape[1] // 2 * 2, : large.shape[2] // 2 * 2])
    with replacing(path) as temporary:
        temporary.write_bytes(encode_clip(even, Fraction(fps).limit_denominator(1000), "h264", QUALITY))


def guide(reward: RewardSpec, clips: int) -> str:
    """What the rater is told."""
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


def run(root: Path, folder: Path, split: Split, clips: int, *, blind: bool) -> int:
    """Export from the experiment at `root`; the exit code."""
    if clips < 0:
        print(f"error: --clips is {clips}; name how many, or 0 for all", file=sys.stderr)
        return 2
    try:
        section = yaml.safe_load((root / "build/spec/reward.yaml").read_text(encoding="utf-8"))
        reward = RewardSpec.model_validate(section["reward"])
        corpus = Corpus.open(root / "artifacts/sources/index.json")
        bench = Bench.open(root / "artifacts/bench", corpus, reward.names)
        rows = choose_pairs(bench.pairs, split, clips)
        if not rows:
            raise ValueError(f"the bench has no clip in the {split} split")
        fps = next((store.fps for store in corpus.stores if isinstance(store, EpisodeStore)), 10.0)
        export(folder, bench, rows, reward, fps, blind=blind)
    except (OSError, ValueError) as error:
        print(f"error: {error} (`dvc repro bench` makes the bench)", file=sys.stderr)
        return 1
    print(f"{folder}: {len(rows)} clips of the {split} split; {folder / 'README.md'} says how to score them")
    return 0
