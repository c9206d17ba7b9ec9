"""`reference.json`: the clips of a reference set, and what an installation should make of them."""

from typing import Annotated, Literal

from pydantic import Field

from roboalign.bench.exported import ExportRecord
from roboalign.bench.spec import BenchSpec
from roboalign.evaluation.spec import ScorerName
from roboalign.reward.spec import RewardSpec

FILE = "reference.json"

VERSION: Literal[1] = 1

SCORE_TOLERANCE = 0.02
"""Raw points in one dimension, of at most 3 points in the paper's reward: a hundred times what different processors
were seen to cause, and a tenth of the smallest differences that are reported (our choice)."""
LABEL_TOLERANCE = 0.001
"""Raw points in one dimension. Labels are computed in double precision (our choice)."""
LEVEL_TOLERANCE = 1.0
"""Grey levels, of 255, of the mean of one cell of a frame; other versions of image libraries and video decoders may
round pixels differently (our choice)."""

Row = tuple[float, ...]
"""Raw scores in the order of the reward's dimensions."""


class ReferenceScores(ExportRecord):
    """Raw scores of a clip."""

    absolute: Row
    """Of what the clip shows."""
    faithful: Row | None
    """Of its agreement with the true outcome of its actions; None from a scorer that has no such scores."""


class ReferenceClip(ExportRecord):
    """A clip and its expected values, in the order of `bench/pairs.parquet`."""

    clip: str
    """Its id."""
    digest: str
    """Hash of its frames."""
    levels: Row
    """Mean grey levels, 0 to 255, of a grid of 4 x 4 cells of each frame."""
    label: ReferenceScores | None
    """Its label, if recorded states and declared losses determine it; None if a state probe or a rater does."""
    scores: dict[ScorerName, ReferenceScores]
    """Its scores by scorer."""


class ReferenceCamera(ExportRecord):
    """A camera, fitted to all training episodes of a source's task."""

    source: str
    task: str
    matrix: Annotated[tuple[tuple[float, float, float, float], ...], Field(min_length=3, max_length=3)]
    """(3, 4), from points in metres to image coordinates."""


class ReferenceSet(ExportRecord):
    """A reference set."""

    format: Literal["robotworldbench reference"] = "robotworldbench reference"
    schema_version: Literal[1] = VERSION
    roboalign: str
    """Version of RoboAlign that wrote it."""
    bench: BenchSpec
    """The bench's spec, which declares the degradations' losses."""
    reward: RewardSpec
    """The rubric."""
    limits: dict[str, dict[str, float]]
    """The rubric's limits by source, calibrated on all training episodes."""
    cameras: tuple[ReferenceCamera, ...]
    scorers: dict[ScorerName, str]
    """Hash of each scorer's checkpoint."""
    score_tolerance: float = SCORE_TOLERANCE
    """Largest difference of a score in one dimension, raw points."""
    label_tolerance: float = LABEL_TOLERANCE
    """Largest difference of a label in one dimension, raw points."""
    level_tolerance: float = LEVEL_TOLERANCE
    """Largest difference of a cell's mean, grey levels, in a clip whose pixels differ."""
    clips: tuple[ReferenceClip, ...]
