"""Results of other benchmarks' own evaluations: WorldModelBench's JSON and EWMBench's table.

They are read as these benchmarks write them, without their code, prompts or data, and stand in a table of their own:
their dimensions, clips and judges are not this experiment's.

WorldModelBench (arXiv 2502.20694) writes `worldmodelbench_results.json`: {model_name, preds: {video: answers}, accs:
{instruction: (N,), 0 to 3; physical_laws: (5 N,), 0 or 1; common_sense: (2 N,), 0 or 1}}, in the order of `preds`. A
video's score is the sum of its values, as in its leaderboard: at most 3 + 5 + 2 = 10.

EWMBench (arXiv 2505.09694) writes `ewmbm_final_table.csv`: one row a video with `task_id`, `episode_id`, `trial_id` and
a column a metric, `-` or nothing where it has no value; then the row MEAN, and a remark.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, assert_never

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roboalign.evaluation.external import ExternalError
from roboalign.evaluation.spec import EvaluationSpec, ExternalSpec
from roboalign.metrics.statistics import bootstrap
from roboalign.types import Json

QUESTIONS = {"instruction": 1, "physical_laws": 5, "common_sense": 2}
"""Values of each video in each dimension of WorldModelBench."""

IDS = ("task_id", "episode_id", "trial_id")
"""Columns of EWMBench's table that name the video."""

Metrics = Mapping[str, Sequence[float]]
"""Values over videos, or over a benchmark's episodes, by metric."""


class WorldModelBenchScores(BaseModel):
    """`accs` of WorldModelBench's results."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    instruction: tuple[Annotated[float, Field(ge=0, le=3)], ...]
    physical_laws: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    common_sense: tuple[Annotated[float, Field(ge=0, le=1)], ...]


class WorldModelBenchResults(BaseModel):
    """WorldModelBench's results; the judge's answers in `preds` are not read."""

    model_config = ConfigDict(frozen=True)

    preds: Annotated[dict[str, Json], Field(min_length=1)]
    accs: WorldModelBenchScores


def benchmark_results(entries: Sequence[tuple[ExternalSpec, Path]], spec: EvaluationSpec) -> dict[str, Json]:
    """{benchmark: {model: {metric: {mean, low, high, n}}}} of the files that other benchmarks wrote, with 95 %
    bootstrap intervals over WorldModelBench's videos or EWMBench's episodes.

    Raises ExternalError, which names file and place, if one cannot be read or has another layout.
    """
    result: dict[str, dict[str, Json]] = {}
    for entry, path in entries:
        match entry.format:
            case "scores":
                continue
            case "worldmodelbench":
                metrics = read_worldmodelbench(path)
            case "ewmbench":
                metrics = read_ewmbench(path)
            case _:
                assert_never(entry.format)
        result.setdefault(entry.format, {})[entry.name] = {
            name: bootstrap(values, spec.draws, spec.seed).json() for name, values in metrics.items()
        }
    return result


def read_worldmodelbench(path: Path) -> Metrics:
    """The values of each video in WorldModelBench's dimensions, and their total. Raises ExternalError."""
    try:
        results = WorldModelBenchResults.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ExternalError(f"{path} cannot be read ({error}); see `external` of the evaluation's spec") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "document"
        raise ExternalError(f"{path}: {field}: {first['msg']}; give the JSON that WorldModelBench writes") from None
    videos = len(results.preds)
    metrics: dict[str, list[float]] = {}
    for name, count in QUESTIONS.items():
        values = getattr(results.accs, name)
        if len(values) != videos * count:
            raise ExternalError(
                f"{path}: accs.{name}: has {len(values)} values, {videos} videos need {videos * count}; evaluate them "
                "again"
            )
        metrics[name] = [sum(values[start : start + count]) for start in range(0, len(values), count)]
    return metrics | {"total": [sum(scores) for scores in zip(*metrics.values(), strict=True)]}


def read_ewmbench(path: Path) -> Metrics:
    """The means over the trials of each episode in EWMBench's metrics. Raises ExternalError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExternalError(f"{path} cannot be read ({error}); see `external` of the evaluation's spec") from None
    trials: dict[str, dict[tuple[str, str], list[float]]] = {}
    for line, row in enumerate(rows, 2):
        if not set(IDS) <= row.keys():
            raise ExternalError(f"{path}: its columns lack {', '.join(IDS)}; give the table that EWMBench writes")
        if row["task_id"] == "MEAN":
            break
        for name, cell in row.items():
            if name in IDS or cell in (None, "", "-"):
                continue
            value = _number(cell)
            if value is None:
                raise ExternalError(f"{path}:{line}: {name}: '{cell}' is not a finite number; evaluate it again")
            trials.setdefault(name, {}).setdefault((row["task_id"], row["episode_id"]), []).append(value)
    if not trials:
        raise ExternalError(f"{path}: no video has a value; remove the file from `external`")
    return {name: [sum(own) / len(own) for own in episodes.values()] for name, episodes in trials.items()}


def _number(cell: object) -> float | None:
    """A finite number, or None."""
    try:
        value = float(str(cell))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
