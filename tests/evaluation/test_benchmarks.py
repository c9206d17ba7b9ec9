"""Files that other benchmarks write: their values, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from roboalign.evaluation.benchmarks import benchmark_results, read_ewmbench, read_worldmodelbench
from roboalign.evaluation.external import ExternalError, scored_sets
from roboalign.evaluation.spec import EvaluationSpec, ExternalSpec
from roboalign.report.benchmarks import benchmark_tables

WORLD_MODEL_BENCH: dict[str, Any] = {
    "model_name": "cosmos",
    "preds": {"a": {"instruction": ["Score: 3"], "physical_laws": ["No"] * 5, "common_sense": ["No", "Yes"]}, "b": {}},
    "accs": {
        "instruction": [3.0, 1.0],
        "physical_laws": [True, True, True, True, True, True, False, True, True, False],
        "common_sense": [True, False, True, True],
    },
}
EWM_BENCH = """task_id,episode_id,trial_id,CLIPScore,diversity,dyn
327,648642,1,0.8,0.1,0.5
327,648642,2,0.6,-,
327,648643,1,0.9,-,0.7
MEAN,,,0.766667,0.1,0.6
,,,,,
# Diversity is calculated,,,,,
"""
SPEC = EvaluationSpec(draws=200)


def entry(folder: Path, kind: Any, text: str) -> tuple[ExternalSpec, Path]:
    path = folder / f"results.{'csv' if kind == 'ewmbench' else 'json'}"
    path.write_text(text)
    return ExternalSpec(name="cosmos", scores=f"external/{path.name}", format=kind), path


def test_values_by_video_and_episode(tmp_path: Path) -> None:
    assert read_worldmodelbench(entry(tmp_path, "worldmodelbench", json.dumps(WORLD_MODEL_BENCH))[1]) == {
        "instruction": [3, 1], "physical_laws": [5, 3], "common_sense": [1, 2], "total": [9, 6],
    }  # fmt: skip
    metrics = read_ewmbench(entry(tmp_path, "ewmbench", EWM_BENCH)[1])
    assert metrics == {"CLIPScore": [pytest.approx(0.7), 0.9], "diversity": [0.1], "dyn": [0.5, 0.7]}


def test_each_benchmark_has_a_table_of_its_own(tmp_path: Path) -> None:
    files = [
        entry(tmp_path, "worldmodelbench", json.dumps(WORLD_MODEL_BENCH)),
        entry(tmp_path, "ewmbench", "\ufeff" + EWM_BENCH),
    ]
    assert scored_sets(files, ("physics",), {"judge": "a"}) == {}
    found = benchmark_results(files, SPEC)
    assert found["worldmodelbench"]["cosmos"]["total"] == {"mean": 7.5, "low": 6.0, "high": 9.0, "n": 2}
    assert found["ewmbench"]["cosmos"]["CLIPScore"]["n"] == 2
    first, second = benchmark_tables({"benchmarks": found})
    assert (first.head[1:], first.rows[0][0].text) == (["CLIPScore", "diversity", "dyn"], "cosmos")
    assert second.rows[0][-1].text == "7.500"


def replaced(**values: Any) -> str:
    return json.dumps(WORLD_MODEL_BENCH | {"accs": WORLD_MODEL_BENCH["accs"] | values})


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("worldmodelbench", replaced(common_sense=[True]), r"accs\.common_sense: has 1 values, 2 videos need 4"),
        ("worldmodelbench", replaced(instruction=[3.0, 4.0]), r"accs\.instruction\.1: .*less than or equal to 3"),
        ("worldmodelbench", replaced(physical_laws=[float("nan")] * 10), r"results\.json: "),
        ("worldmodelbench", '{"accs": {}}', "preds: Field required; give the JSON that WorldModelBench writes"),
        ("worldmodelbench", "[" * 100_000, r"results\.json: "),
        ("ewmbench", EWM_BENCH.replace("0.6,-", "bad,-"), r"results\.csv:3: CLIPScore: 'bad' is not a finite number"),
        ("ewmbench", EWM_BENCH.replace("0.6,-", "inf,-"), r"results\.csv:3: CLIPScore: 'inf' is not a finite number"),
        ("ewmbench", "a,b\n1,2\n", "its columns lack task_id, episode_id, trial_id"),
        ("ewmbench", "task_id,episode_id,trial_id\n1,2,3\n", "no video has a value"),
    ],
)
def test_other_files_are_refused_with_their_place(tmp_path: Path, kind: Any, text: str, message: str) -> None:
    with pytest.raises(ExternalError, match=message):
        benchmark_results([entry(tmp_path, kind, text)], SPEC)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_worldmodelbench, read_ewmbench):
        with pytest.raises(ExternalError, match="none cannot be read"):
            read(tmp_path / "none")


def test_the_spec_wants_the_formats_extension_and_compares_clip_sets_only() -> None:
    with pytest.raises(ValidationError, match=r"must end in \.csv for the format ewmbench"):
        ExternalSpec(name="cosmos", scores="external/a.json", format="ewmbench")
    with pytest.raises(ValidationError, match=r"must end in \.json for the format scores"):
        ExternalSpec(name="cosmos", scores="external/a.csv")
    pair = {"model": "aligned.swr.greedy", "against": "external.cosmos"}
    listed = {"name": "cosmos", "scores": "external/a.json", "format": "worldmodelbench"}
    with pytest.raises(ValidationError, match=r"external\.cosmos is not in external"):
        EvaluationSpec.model_validate({"comparisons": [pair], "external": [listed]})
