"""Scores of videos that another program made, as `python -m roboalign score --json` writes them.

The file stands under its own name in the evaluation's tables where the evaluation's spec lists it (`external`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roboalign.evaluation.scoring import ScoredSet
from roboalign.evaluation.spec import ExternalSpec, ScorerName
from roboalign.spec.base import Name

PREFIX = "external."
"""What the names of such clip sets begin with: no set of the experiment's own does."""


class ExternalError(ValueError):
    """A file of scores cannot be used; the message names the file and the remedy."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScoreEstimate(_Record):
    """A score with its interval."""

    score: float
    low: float | None = None
    """Ends of the interval that holds the label with the file's `level`; None where too few pairs calibrate it."""
    high: float | None = None
    spread: float | None = None
    """Standard deviation over the judge's scorings of the same clip, where it makes several."""


class Mean(_Record):
    """A mean over videos with its 95 % interval, by bootstrap over them."""

    mean: float
    low: float
    high: float
    n: int


class ScoredVideo(_Record):
    """One video."""

    video: str
    """Its path below the folder of videos, without its ending."""
    instruction: str
    frames: int
    """How many were scored, after the stride; a first frame that was put before them counts."""
    fps: float | None
    """Frames per second, after the stride, where the file tells."""
    size: tuple[int, int]
    """Height and width in the file."""
    scores: dict[str, ScoreEstimate]
    """By dimension, and `total`."""
    warnings: tuple[str, ...]
    """Why the judge may be out of its depth."""


class Problem(_Record):
    """A video that was not scored."""

    video: str
    reason: str


class ScoreFile(_Record):
    """The scores of a folder of videos by one scorer."""

    format: Literal["roboalign scores 1"] = "roboalign scores 1"
    name: Name
    """The model that made the videos."""
    scorer: ScorerName
    judge: str
    """The hash of the judge's file: scores of different judges are never compared."""
    dimensions: tuple[str, ...]
    fit: Literal["crop", "pad", "stretch"]
    """How pictures were brought to the judge's size."""
    stride: Annotated[int, Field(ge=1)]
    """Every how many frames one was taken."""
    level: Annotated[float, Field(gt=0, lt=1)]
    """The share of labels that the intervals of single videos hold, at least, of clips such as those they rest on."""
    like: Literal["all", "generated"]
    """Which of the bench's validation pairs the intervals rest on: all, or the world models' rollouts alone."""
    calibration_pairs: int
    """How many those are."""
    videos: tuple[ScoredVideo, ...]
    problems: tuple[Problem, ...]
    mean: dict[str, Mean]
    """By dimension, and `total`."""


def read(path: Path) -> ScoreFile:
    """A file of scores. Raises ExternalError where it is none."""
    try:
        return ScoreFile.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExternalError(f"{path} cannot be read ({error}); see `external` of the evaluation's spec") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "document"
        raise ExternalError(
            f"{path}: {field}: {first['msg']}; write it by `python -m roboalign score --json {path}`"
        ) from None


def scored_sets(
    entries: Sequence[tuple[ExternalSpec, Path]], dimensions: Sequence[str], judges: dict[ScorerName, str]
) -> dict[str, ScoredSet]:
    """The clip sets `external.<name>` of files of scores; several files of one name are several scorers' scores of it.

    `judges` are the hashes of the experiment's scorers. Raises ExternalError where a file is of another judge or other
    dimensions, where it has no videos, or where two files of one name have the same scorer or other videos.
    """
    found: dict[str, ScoredSet] = {}
    for spec, path in entries:
        file = read(path)
        if file.scorer not in judges:
            raise ExternalError(f"{path}: scorer: the evaluation has no scorer {file.scorer}; add it to `scorers`")
        if file.dimensions != tuple(dimensions) or file.judge != judges[file.scorer]:
            raise ExternalError(
                f"{path}: judge: another {file.scorer} than this experiment's gave these scores; score the videos "
                "again: python -m roboalign score"
            )
        if not file.videos:
            raise ExternalError(f"{path}: videos: none was scored; leave the file out of `external`")
        name = PREFIX + spec.name
        videos = tuple(video.video for video in file.videos)
        scores = np.array([[video.scores[dimension].score for dimension in dimensions] for video in file.videos])
        before = found.get(name)
        if before is None:
            found[name] = ScoredSet(name, videos, (0,) * len(videos), {file.scorer: scores})
        elif file.scorer in before.scores or before.episodes != videos:
            raise ExternalError(
                f"{path}: videos: an earlier file of '{spec.name}' has the same scorer or other videos; give one file "
                "a scorer, of the same videos"
            )
        else:
            found[name] = ScoredSet(name, videos, before.samples, {**before.scores, file.scorer: scores})
    return found
