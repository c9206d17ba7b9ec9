"""The files of exported clips, `bench.json` and `clips.jsonl`, by a versioned JSON Schema.

`schema.json` beside them is that schema. A change of a class here is a change of the format: raise SCHEMA_VERSION.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from roboalign.bench.pairs import BenchError
from roboalign.io import json_lines, write_text
from roboalign.types import Split

SCHEMA_VERSION: Literal[1] = 1

HEADER, CLIPS, SCHEMA = "bench.json", "clips.jsonl", "schema.json"


class ExportRecord(BaseModel):
    """Base of the objects in exported files: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ExportedDimension(ExportRecord):
    """A dimension in which clips are scored."""

    max_score: float
    """The maximum score; the minimum is 0."""
    rubric: str
    """The instructions for raters."""


class ExportedBench(ExportRecord):
    """`bench.json`: what the folder holds."""

    format: Literal["robotworldbench"] = "robotworldbench"
    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this schema."""
    layout: Literal["videos", "lerobot"]
    """`videos`: mp4 files and strips of frames. `lerobot`: one LeRobotDataset 3 for each robot."""
    split: Split
    """The split of the clips."""
    blind: bool
    """Whether scores and origins are left out."""
    clips: int
    """Number of lines of `clips.jsonl`."""
    dimensions: dict[str, ExportedDimension]
    """The dimensions by name."""


class ExportedClip(ExportRecord):
    """A line of `clips.jsonl`. Fields from `source` on are absent if the export is blind."""

    clip: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """Id of the clip: the same clip has the same id in every bench."""
    instruction: str
    """The instruction by which the clip is scored."""
    frames: int
    """Number of frames; the first one is recorded."""
    fps: float
    """Frames per second."""
    video: str | None = None
    """Path of the video (layout `videos`), with small frames enlarged."""
    strip: str | None = None
    """Path of an image of some frames side by side (layout `videos`)."""
    dataset: str | None = None
    """Path of the LeRobotDataset 3 with the clip (layout `lerobot`). Its actions are normalised to [-1, 1]."""
    episode: int | None = None
    """Index of the clip's episode in it (layout `lerobot`)."""
    source: str | None = None
    """The robot or data set."""
    origin: str | None = None
    """`real`, `policy`, `degraded`, `generated`, or `group` (one of several rollouts of one prompt)."""
    degradation: str | None = None
    """Kind of a degraded clip, else ''."""
    severity: float | None = None
    """Severity of the degradation, from 0 to 1."""
    model: str | None = None
    """World model of a generated clip, else ''."""
    provenance: str | None = None
    """How the scores were obtained, see the bench's data card."""
    scores: dict[str, float] | None = None
    """Absolute scores by dimension: what the clip shows."""
    faithful: dict[str, float] | None = None
    """Faithful scores by dimension: agreement of the clip with the true outcome of its actions."""


def schema() -> str:
    """The text of `schema.json`: a JSON Schema of `bench.json` and of a line of `clips.jsonl`."""
    kinds = (ExportedBench, ExportedClip)
    _, definitions = models_json_schema([(kind, "validation") for kind in kinds])
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Exported RobotWorldBench, version {SCHEMA_VERSION}: bench.json, and each line of clips.jsonl",
        **definitions,
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in kinds],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def write_listing(folder: Path, header: ExportedBench, clips: Sequence[ExportedClip]) -> None:
    """Write `bench.json`, `clips.jsonl` and `schema.json` into a folder of clips."""
    write_text(folder / HEADER, header.model_dump_json(indent=1) + "\n")
    write_text(folder / CLIPS, "".join(clip.model_dump_json(exclude_none=True) + "\n" for clip in clips))
    write_text(folder / SCHEMA, schema())


def read_listing(folder: Path) -> tuple[ExportedBench, tuple[ExportedClip, ...]]:
    """The content of `bench.json` and `clips.jsonl`. Raises BenchError, which names the first wrong line."""
    header = parse_record(ExportedBench, folder / HEADER, _read(folder / HEADER))
    lines = json_lines(_read(folder / CLIPS))
    clips = tuple(parse_record(ExportedClip, folder / CLIPS, line, number) for number, line in lines)
    if len(clips) != header.clips:
        raise BenchError(f"{folder / CLIPS}: has {len(clips)} clips, {HEADER} says {header.clips}; export it again")
    for number, clip in enumerate(clips, 1):
        for path in (clip.video, clip.strip, clip.dataset):
            if path is not None and not (folder / path).exists():
                raise BenchError(f"{folder / CLIPS}:{number}: {path} is missing; get the folder again")
    return header, clips


R = TypeVar("R", bound=ExportRecord)


def parse_record(kind: type[R], path: Path, text: str, line: int | None = None) -> R:
    """A record from JSON. Raises BenchError with file, line, field and what is wrong with it."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{path}:{line}" if line else str(path)
        field = ".".join(map(str, first["loc"])) or "the document"
        raise BenchError(f"{place}: {field}: {first['msg']}; see {SCHEMA}, or export it again") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path} cannot be read ({error}); is it a folder that `bench export` wrote?") from None
