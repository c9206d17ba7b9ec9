import subprocess
import sys
from pathlib import Path

import pytest

from roboalign.evaluation.outcomes import read_outcomes
from roboalign.spec.experiment import StudySpec
from roboalign.study.experiments import (
    StudyError,
    dvc,
    overrides,
    read_output,
    require_experiment,
    revisions,
    run_queued,
)
from roboalign.study.page import interval, markdown, plot
from roboalign.study.results import RunResult, read_totals, summarise

ALIGNED, SUPERVISED = "aligned.swr.sampled", "supervised.swr.sampled"
STAGE = """import json, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
seed = params["set"].get("rl", {}).get("training", {}).get("seed", 0)
assert seed != 9, "the stage fails"
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("artifacts/evaluation").mkdir(parents=True, exist_ok=True)
pathlib.Path("metrics/evaluation.json").write_text(json.dumps({"seed": seed}))
pathlib.Path("artifacts/evaluation/scores.tsv").write_text(f"seed {seed}")
"""
GRAPH = """stages:
  evaluation:
    cmd: python stage.py
    deps: [stage.py]
    params: [use, set]
    outs: [artifacts/evaluation, metrics/evaluation.json]
"""


def study(**changes: object) -> StudySpec:
    fields: dict[str, object] = {
        "question": "Does it hold?",
        "experiment": "tiny",
        "reference": "a",
        "runs": {"a": {"use": {"rl": "tiny"}}, "b": {"set": {"rl.training.seed": 1}}},
        "comparisons": [{"model": ALIGNED, "against": SUPERVISED}],
        "scorers": ["gold_faithful"],
    }
    return StudySpec.model_validate(fields | changes)


def result(*totals: float, supervised: float = 7.0, psnr: float = 0.1) -> RunResult:
    """A run whose aligned clips have these totals, one an episode, and this gain in PSNR."""
    rows = ["model\tscorer\tepisode\tsample\ttotal"]
    for episode, total in enumerate(totals):
        rows += [f"{ALIGNED}\tgold_faithful\t{episode}\t0\t{total}"]
        rows += [f"{SUPERVISED}\tgold_faithful\t{episode}\t0\t{supervised}"]
    outcome = {"psnr": {"mean": 0.1, "low": -0.1, "high": 0.3, "n": len(totals)}}
    evaluation = {"differences": {ALIGNED: {SUPERVISED: {"outcomes": outcome}}}}
    table = ["model\tepisode\tsample\tshown_success\ttrue_success\tposition_error_cm\tpsnr"]
    for episode in range(len(totals)):
        table += [f"{ALIGNED}\t{episode}\t0\t0\t0\t1.5\t{20 + psnr}", f"{SUPERVISED}\t{episode}\t0\t0\t0\t2\t20"]
    outcomes = read_outcomes("\n".join(table))
    return RunResult("abc", ("use.rl=tiny",), evaluation, read_totals("\n".join(rows)), outcomes)


def test_a_run_differs_from_the_experiment_in_what_it_declares() -> None:
    spec = study(set={"rollout.sweep": [], "rl": {"training": {"seed": 3}}})
    assert overrides(spec, spec.runs["a"]) == ["use.rl=tiny", "++set.rollout.sweep=[]", "++set.rl.training.seed=3"]
    assert overrides(spec, spec.runs["b"])[-1] == "++set.rl.training.seed=1", "its own value is the later one"


def test_gains_are_paired_by_episode_and_the_reference_is_compared_with_the_others() -> None:
    found = summarise(study(), {"a": result(8, 9, 10), "b": result(8, 8, 8)})
    gain = found["runs"]["a"]["gains"][f"{ALIGNED} less {SUPERVISED}"]
    assert gain["scorers"]["gold_faithful"]["mean"] == pytest.approx(2)
    assert (gain["scorers"]["gold_faithful"]["before"], gain["scorers"]["gold_faithful"]["after"]) == (7, 9)
    assert gain["outcomes"]["psnr"]["mean"] == 0.1
    others = found["reference_less_others"]["b"][f"{ALIGNED} less {SUPERVISED}"]["gold_faithful"]
    assert (others["mean"], others["low"], others["high"], others["n"]) == (1, 0, 2, 3)
    assert "pooled" not in found


def test_runs_that_repeat_each_other_are_pooled_over_runs_and_episodes() -> None:
    runs = {"a": result(8, 8, 8), "b": result(9, 9, 9)}
    found = summarise(study(pooled=True), runs)
    pool = found["pooled"][f"{ALIGNED} less {SUPERVISED}"]
    total, position = pool["scorers"]["gold_faithful"], pool["outcomes"]["position_error_cm"]
    assert (total["mean"], total["low"], total["high"], total["n"]) == (1.5, 1.0, 2.0, 3)
    assert (position["mean"], position["n"]) == (-0.5, 3)
    assert "missed_success" not in pool["outcomes"], "no action truly succeeds"
    assert "reference_less_others" not in found


def test_gates_are_decided_over_all_runs() -> None:
    found = summarise(study(pooled=True), {"a": result(8, 8, 8), "b": result(9, 9, 9, psnr=0.3)})
    assert {name: gate["passed"] for name, gate in found["gates"].items()} == {
        "fidelity": True, "false_success": True, "aligned_above_supervised_gold": True,
    }  # fmt: skip
    worse = summarise(study(pooled=True), {"a": result(8, 8, 8, psnr=-1), "b": result(4, 4, 4, psnr=-1)})
    assert {name: gate["passed"] for name, gate in worse["gates"].items()} == {
        "fidelity": False, "false_success": True, "aligned_above_supervised_gold": False,
    }, "two runs that disagree confirm nothing"  # fmt: skip
    page = markdown("x", worse | {"command": "study x", "revision": "abc", "experiment": "tiny"})
    rule = "faithful total by gold, aligned minus supervised: interval above 0"
    assert f"| aligned_above_supervised_gold | {rule} | failed |" in page
    assert "| all runs | -1.00 [-3.00, 1.00] | **-.50 [-.50, -.50]** | **-1.00 [-1.00, -1.00]** |" in page


def test_samples_of_an_episode_are_averaged() -> None:
    rows = ["model\tscorer\tepisode\tsample\ttotal", "m\tgold\ta\t0\t4", "m\tgold\ta\t1\t6", "m\tgold\tb\t0\t8"]
    assert read_totals("\n".join(rows)) == {("m", "gold"): {"a": 5, "b": 8}}


def test_the_page_shows_every_run_and_marks_what_excludes_zero() -> None:
    found = summarise(study(), {"a": result(8, 9, 10), "b": result(7, 7, 7)})
    found |= {"command": "python -m roboalign study x", "revision": "abc", "experiment": "tiny"}
    page = markdown("x", found)
    assert "| a | **+2.00 [1.00, 3.00]** | n/a | +.10 [-.10, .30] | n/a | n/a |" in page
    assert "| b | +.00 [.00, .00] |" in page
    assert "| a less | gold faithful |" in page
    assert interval(None) == "n/a"
    assert "Declared" not in page
    assert "Declared, and not run: c, d." in markdown("x", found | {"not_run": ["c", "d"]})
    drawing = plot("x", found)
    assert drawing.startswith("<svg")
    assert ">b</text>" in drawing
    assert drawing == plot("x", found)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A DVC repository of one quick stage, committed."""
    for name, text in (("stage.py", STAGE), ("dvc.yaml", GRAPH), (".gitignore", "/artifacts\n/metrics\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "params.yaml").write_text("use: {experiment: tiny, rl: null}\nsources: [a]\nset: {}\n")
    for words in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(words, cwd=tmp_path, check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, "commit", "-qm", "all"], cwd=tmp_path, check=True)
    return tmp_path


def test_runs_are_queued_once_and_read_back(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # What an interrupted call leaves: a queued run, declared otherwise than now.
    dvc(repository, "exp", "run", "--queue", "--name", "toy-b", "-S", "++set.rl.training.seed=3")
    run_queued(repository, "toy", study())
    done = revisions(repository, "toy", ["a", "b"])
    assert [read_output(repository, done[run], "artifacts/evaluation/scores.tsv") for run in done] == [
        "seed 0",
        "seed 1",
    ]
    assert read_output(repository, done["b"], "metrics/evaluation.json") == '{"seed": 1}'
    capfd.readouterr()
    run_queued(repository, "toy", study())
    assert "toy-b: finished before" in capfd.readouterr().out
    with pytest.raises(StudyError, match="is not in DVC's cache"):
        read_output(repository, done["a"], "artifacts/evaluation/other.tsv")
    failing = study(runs={"a": {}, "c": {"set": {"rl.training.seed": 9}}})
    with pytest.raises(StudyError, match="c did not finish; `dvc queue logs toy-c`"):
        run_queued(repository, "toy", failing)


def test_a_study_starts_from_its_experiment_as_committed(repository: Path) -> None:
    require_experiment(repository, "tiny")
    with pytest.raises(StudyError, match="roboalign use smoke"):
        require_experiment(repository, "smoke")
    (repository / "params.yaml").write_text("use: {experiment: tiny, rl: mse}\nsources: [a]\nset: {}\n")
    with pytest.raises(StudyError, match="does not name the experiment tiny without overrides"):
        require_experiment(repository, "tiny")
    with pytest.raises(StudyError, match="commit them first"):
        run_queued(repository, "toy", study())
