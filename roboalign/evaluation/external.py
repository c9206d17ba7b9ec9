"""Files of scores of other models' videos, written by `python -m roboalign score --json`.

If the evaluation's spec lists such a file under `external`, its model appears in the tables by its name.
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
"""Prefix of the names of external clip sets; no clip set of the experiment has it."""


class ExternalError(ValueError):
    """A file of scores cannot be used; the message names the file and the remedy."""


class _Record(BaseModel):
    """Base of the objects of a file of scores: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScoreEstimate(_Record):
    """A score with its interval."""

    score: float
    low: float | None = None
    """Lower end of the interval that contains the label with probability `level`; None if too few pairs calibrate
    it."""
    high: float | None = None
    """Upper end of the interval."""
    spread: float | None = None
    """Standard deviation over the judge's draws for the same clip; None if it makes only one."""


class Mean(_Record):
    """A mean over videos with its 95 % interval, by bootstrap over them."""

    mean: float
    low: float
    high: float
    n: int


class ScoredVideo(_Record):
    """One video."""

    video: str
    """Its path below the folder of videos, without its extension."""
    instruction: str
    frames: int
    """Number of scored frames after the stride, including a first frame that was put before the video."""
    fps: float | None
    """Frames per second after the stride; None if the file does not tell."""
    size: tuple[int, int]
    """Height and width in the file, in pixels."""
    scores: dict[str, ScoreEstimate]
    """By dimension, and `total`."""
    warnings: tuple[str, ...]
    """Reasons why the judge may be unreliable for this video."""


class Problem(_Record):
    """A video that was not scored, and the reason."""

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
    """The method by which frames were brought to the judge's size."""
    stride: Annotated[int, Field(ge=1)]
    """One of so many frames was scored."""
    level: Annotated[float, Field(gt=0, lt=1)]
    """Coverage of the intervals of single videos, for clips like the calibration pairs."""
    like: Literal["all", "generated"]
    """The bench's validation pairs that calibrate the intervals: all, or only rollouts of world models."""
    calibration_pairs: int
    """Number of calibration pairs."""
    videos: tuple[ScoredVideo, ...]
    problems: tuple[Problem, ...]
    mean: dict[str, Mean]
    """By dimension, and `total`."""


def read(path: Path) -> ScoreFile:
    """Read a file of scores. Raises ExternalError if it cannot be read or is not valid."""
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
    """The clip sets `external.<name>` of files of scores.

    Args:
        entries: The spec and the path of each file. Files with the same name are the scores of several scorers; those
            of other formats than `scores` are left out.
        dimensions: The reward's dimensions.
        judges: The hash of the checkpoint of each of the experiment's scorers.

    Raises:
        ExternalError: A file is of another judge or other dimensions, or has no videos; or two files with the same name
            have the same scorer or different videos.
    """
    sets: dict[str, ScoredSet] = {}
    for spec, path in (entry for entry in entries if entry[0].format == "scores"):
        file = read(path)
        if file.scorer not in judges:
            raise ExternalError(f"{path}: scorer: the evaluation has no scorer {file.scorer}; add it to `scorers`")
        if file.dimensions != tuple(dimensions) or file.judge != judges[file.scorer]:
            raise ExternalError(
                f"{path}: judge: these scores are by another {file.scorer} than this experiment's; score the videos "
                "again by `python -m roboalign score`"
            )
        if not file.videos:
            raise ExternalError(f"{path}: videos: none was scored; remove the file from `external`")
        name = PREFIX + spec.name
        videos = tuple(video.video for video in file.videos)
        scores = np.array([[video.scores[dimension].score for dimension in dimensions] for video in file.videos])
        earlier = sets.get(name)
        if earlier is None:
            sets[name] = ScoredSet(name, videos, (0,) * len(videos), {file.scorer: scores})
        elif file.scorer in earlier.scores or earlier.episodes != videos:
            raise ExternalError(
                f"{path}: videos: an earlier file of '{spec.name}' has the same scorer or other videos; list one file "
                "for each scorer, with the same videos"
            )
        else:
            sets[name] = ScoredSet(name, videos, earlier.samples, {**earlier.scores, file.scorer: scores})
    return sets
