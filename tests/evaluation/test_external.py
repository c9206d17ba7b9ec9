"""Other models' scores: the file's checks, and its place among the experiment's own clip sets."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from roboalign.evaluation.external import ExternalError, read, scored_sets
from roboalign.evaluation.scoring import ScoredSet, evaluate, rows
from roboalign.evaluation.spec import ComparisonSpec, EvaluationSpec, ExternalSpec, ScorerName

NAMES = ("manipulation", "physics")
SCORERS: tuple[ScorerName, ...] = ("judge", "student")
JUDGES: dict[ScorerName, str] = {"judge": "a" * 32, "student": "b" * 32}


def document(scorer: ScorerName = "judge", videos: int = 4, **changes: object) -> dict[str, object]:
    def score(value: float) -> dict[str, float | None]:
        return {"score": value, "low": value - 0.5, "high": value + 0.5, "spread": None}

    listed = [
        {
            "video": f"toy/{number}", "instruction": "push", "frames": 8, "fps": 10.0, "size": [64, 64],
            "scores": {"manipulation": score(number / 2), "physics": score(1), "total": score(1 + number / 2)},
            "warnings": [],
        }
        for number in range(videos)
    ]  # fmt: skip
    mean = {name: {"mean": 1.0, "low": 0.5, "high": 1.5, "n": videos} for name in (*NAMES, "total")}
    return {
        "format": "roboalign scores 1", "name": "cosmos", "scorer": scorer, "judge": JUDGES[scorer],
        "dimensions": list(NAMES), "fit": "crop", "stride": 1, "level": 0.9, "like": "generated",
        "calibration_pairs": 20, "videos": listed, "problems": [], "mean": mean,
    } | changes  # fmt: skip


def entry(folder: Path, name: str, value: dict[str, object]) -> tuple[ExternalSpec, Path]:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(value))
    return ExternalSpec(name="cosmos", scores=f"external/{name}.json"), path


def test_two_files_of_one_name_are_two_scorers(tmp_path: Path) -> None:
    entries = [entry(tmp_path, scorer, document(scorer)) for scorer in SCORERS]
    (found,) = scored_sets(entries, NAMES, JUDGES).values()
    assert found.name == "external.cosmos"
    assert found.episodes == ("toy/0", "toy/1", "toy/2", "toy/3")
    assert found.scores.keys() == {"judge", "student"}
    np.testing.assert_allclose(found.scores["judge"], [[0, 1], [0.5, 1], [1, 1], [1.5, 1]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge": "c" * 32}, "by another judge than this experiment"),
        ({"dimensions": ["physics", "manipulation"]}, "by another judge"),
        ({"videos": []}, "none was scored"),
        ({"format": "roboalign scores 2"}, "format"),
        ({"stride": 0}, "stride"),
        ({"colour": 1}, "colour"),
    ],
)
def test_files_that_do_not_belong_here_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ExternalError, match=message):
        scored_sets([entry(tmp_path, "a", document() | changes)], NAMES, JUDGES)


def test_a_scorer_that_the_evaluation_lacks_and_a_second_file_of_one_scorer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExternalError, match="no scorer student"):
        scored_sets([entry(tmp_path, "a", document("student"))], NAMES, {"judge": "a" * 32})
    twice = [entry(tmp_path, name, document()) for name in ("a", "b")]
    with pytest.raises(ExternalError, match="same scorer"):
        scored_sets(twice, NAMES, JUDGES)
    fewer = [entry(tmp_path, "a", document()), entry(tmp_path, "b", document("student", videos=3))]
    with pytest.raises(ExternalError, match="other videos"):
        scored_sets(fewer, NAMES, JUDGES)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExternalError, match=r"none\.json cannot be read"):
        read(tmp_path / "none.json")


def test_an_external_model_stands_in_the_tables_and_is_compared_on_shared_episodes(tmp_path: Path) -> None:
    external = scored_sets([entry(tmp_path, "a", document())], NAMES, JUDGES)
    ours = ScoredSet(
        "aligned.swr.greedy", tuple(f"toy/{number}" for number in range(6)), (0,) * 6,
        {"judge": np.full((6, 2), 2.0), "student": np.full((6, 2), 2.0)},
    )  # fmt: skip
    spec = EvaluationSpec(
        draws=200,
        comparisons=(ComparisonSpec(model="aligned.swr.greedy", against="external.cosmos"),),
        external=(ExternalSpec(name="cosmos", scores="external/a.json"),),
    )
    result = evaluate({ours.name: ours} | external, NAMES, spec)
    assert result["models"]["external.cosmos"]["judge"]["total"]["mean"] == pytest.approx(1.75)
    assert "student" not in result["models"]["external.cosmos"]
    compared = result["differences"]["aligned.swr.greedy"]["external.cosmos"]
    assert compared.keys() == {"judge", "outcomes"}
    assert compared["judge"]["total"]["n"] == 4
    assert compared["judge"]["total"]["mean"] == pytest.approx(4 - 1.75)
    assert {row["model"] for row in rows(external.values(), NAMES)} == {"external.cosmos"}


def test_a_baseline_without_the_deciding_scorer_does_not_compete(tmp_path: Path) -> None:
    external = scored_sets([entry(tmp_path, "a", document("student"))], NAMES, JUDGES)
    spec = EvaluationSpec.model_validate({"draws": 200, "strongest_baseline": {"among": ["external.*"]}})
    assert "strongest_baseline" not in evaluate(external, NAMES, spec)


@pytest.mark.parametrize("path", ["scores.json", "external/../secret.json", "external/a.txt", "/external/a.json"])
def test_files_come_from_the_folder_that_the_stage_depends_on(path: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        ExternalSpec(name="cosmos", scores=path)


def test_a_file_is_listed_once() -> None:
    twice = [{"name": "a", "scores": "external/a.json"}, {"name": "b", "scores": "external/a.json"}]
    with pytest.raises(ValidationError, match="twice"):
        EvaluationSpec.model_validate({"external": twice})


@pytest.mark.parametrize(("field", "side"), [("comparisons", "against"), ("aligned", "model")])
def test_a_comparison_with_a_model_that_is_not_listed_is_refused(field: str, side: str) -> None:
    pair = {"model": "aligned.swr.greedy", "against": "supervised.swr.greedy"} | {side: "external.cosmos"}
    with pytest.raises(ValidationError, match=r"external\.cosmos is not in external"):
        EvaluationSpec.model_validate({field: [pair]})
    EvaluationSpec.model_validate({field: [pair], "external": [{"name": "cosmos", "scores": "external/a.json"}]})
