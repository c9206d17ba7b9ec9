"""What `diff` says of two runs: fields with their meaning, code, and whether scores moved by more than noise."""

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from roboalign.__main__ import main
from roboalign.comparison.changes import code_changes, covers, intervals, metric_changes, stage_fields
from roboalign.io import write_json, write_tsv
from roboalign.sources.index import entry
from roboalign.store import EpisodeWriter
from roboalign.types import Episode

ROOT = Path(__file__).parents[2]
SETS = ("supervised.ar.greedy", "supervised.swr.greedy")


def write_run(folder: Path, *, window: int = 6, seed: int = 0, gain: float = 0.0) -> Path:
    """A checkout with the repository's resolved spec and graph, a metric, and scores of 30 episodes.

    `gain` is what SWR's faithful totals by gold are higher by; the scores of AR differ by chance only.
    """
    shutil.copytree(ROOT / "build/spec", folder / "build/spec")
    shutil.copy(ROOT / "dvc.yaml", folder / "dvc.yaml")
    for part, path, key, value in (
        ("rollout", ("decodings", "swr"), "window", window),
        ("student", ("training",), "seed", seed),
    ):
        file = folder / f"build/spec/{part}.yaml"
        content = yaml.safe_load(file.read_text())
        above = content[part]
        for name in path:
            above = above[name]
        above[key] = value
        file.write_text(yaml.safe_dump(content))
    (folder / "roboalign/rollout").mkdir(parents=True)
    (folder / "roboalign/rollout/swr.py").write_text("step = 1\n")
    write_json(folder / "metrics/rollout.json", {"psnr": {"mean": 20 + gain, "low": 19.8 + gain, "high": 20.2 + gain}})
    rng = np.random.default_rng(0)
    rows = []
    for model in SETS:
        moved = gain if model == SETS[1] else 0.0
        for episode, base in enumerate(rng.uniform(3, 8, 30)):
            noise = 0.3 * np.random.default_rng([window, seed, episode, len(model)]).normal()
            row = {"model": model, "scorer": "gold_faithful", "episode": f"toy/{episode:06d}", "sample": 0}
            rows.append(row | {"total": round(float(base + noise + moved), 4)})
    write_tsv(folder / "artifacts/evaluation/scores.tsv", rows)
    return folder


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def diff(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_changed_window_is_named_with_its_meaning_its_stages_and_what_it_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", window=9, gain=1.0)
    (b / "roboalign/rollout/swr.py").write_text("step = 2\n")
    found = diff(capsys, "diff", a, b)
    (change,) = found["fields"]
    assert (change["field"], change["change"]) == ("rollout.decodings.swr.window", "6 → 9")
    assert "frames" in change["meaning"].lower()
    assert "rollout" in change["stages"]
    assert "tokenizer" not in change["stages"]
    assert found["code"] == {"roboalign/rollout": 1}
    scores = {each["model"]: each for each in found["scores"]}
    assert scores[SETS[1]]["low"] > 0.5
    assert scores[SETS[1]]["n"] == 30
    assert scores[SETS[0]]["low"] < 0 < scores[SETS[0]]["high"]
    assert found["verdict"] == "1 of 2 scores differ by more than chance over episodes"
    (metric,) = found["metrics"]
    assert (metric["metric"], metric["after"] - metric["before"]) == ("rollout/psnr", 1.0)
    assert main(["diff", str(a), str(b)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"rollout\.decodings\.swr\.window 6 → 9  \(read by [a-z@_, ]*\brollout\b", text)
    assert "supervised.ar.greedy, gold_faithful" in text
    assert text.index("more than noise") < text.index(": noise\n")


def test_two_seeds_are_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=7, gain=0.5)
    found = diff(capsys, "diff", a, b)
    assert [each["field"] for each in found["fields"]] == ["student.training.seed"]
    assert found["verdict"].startswith("noise: the runs differ only in seeds")


def test_equal_runs_differ_in_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a")
    found = diff(capsys, "diff", a, a)
    assert (found["fields"], found["code"], found["metrics"]) == ([], {}, [])
    assert found["verdict"] == "noise: none of 2 scores differs by more than chance over episodes"


def test_revisions_are_compared_with_folders_and_absent_scores_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "a")
    git(folder, "init", "-q")
    git(folder, "add", "build", "dvc.yaml", "metrics", "roboalign")
    git(folder, "commit", "-qm", "first")
    (folder / "roboalign/rollout/swr.py").write_text("step = 2\n")
    git(folder, "commit", "-qam", "second")
    assert main(["--root", str(folder), "diff", "HEAD~1", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["code"] == {"roboalign/rollout": 1}
    assert found["verdict"] == "unknown: there are no scores of the same clips"
    assert "HEAD~1 has no table of scores at hand" in found["notes"][0]
    assert main(["--root", str(folder), "diff", "HEAD", "nothing"]) == 2
    assert "nothing is no folder with dvc.yaml, no experiment of DVC" in capsys.readouterr().err


def test_metrics_and_scores_of_a_revision_are_read_from_the_cache_of_dvc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dvc.repo import Repo

    root = write_run(tmp_path / "a")
    outs = "[artifacts/evaluation, metrics/rollout.json]"
    (root / "dvc.yaml").write_text(f"stages: {{evaluation: {{cmd: x, outs: {outs}}}}}\n")
    (root / ".gitignore").write_text("/artifacts/\n/metrics/\n")
    git(root, "init", "-q")
    with contextlib.chdir(root), Repo.init(".") as repo:
        repo.commit(force=True)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    shutil.rmtree(root / "metrics")
    shutil.rmtree(root / "artifacts")
    b = write_run(tmp_path / "b", window=9, gain=1.0)
    capsys.readouterr()  # DVC's messages
    found = diff(capsys, "--root", root, "diff", "HEAD", b)
    assert [each["metric"] for each in found["metrics"]] == ["rollout/psnr"]
    assert len(found["scores"]) == 2
    assert len(found["notes"]) == 1
    shutil.rmtree(root / ".dvc/cache")
    found = diff(capsys, "--root", root, "diff", "HEAD", b)
    assert found["metrics"] == found["scores"] == []
    assert "HEAD has no table of scores and no metrics at hand; `dvc pull`" in found["notes"][0]


def test_a_folder_without_a_resolved_spec_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/dvc.yaml").write_text("stages: {}\n")
    assert main(["diff", str(a), str(tmp_path / "b")]) == 2
    assert "has no build/spec; run `dvc repro` there" in capsys.readouterr().err


def test_the_page_has_the_clips_of_both_runs_side_by_side(
    tmp_path: Path, toy_episodes: list[Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    tests = [episode for episode in toy_episodes if episode.split == "test"]
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", window=9)]
    for run in runs:
        artifacts, name = run / "artifacts", SETS[1]
        with EpisodeWriter(artifacts / "episodes/toy", fps=5) as writer:
            for episode in toy_episodes:
                writer.add(episode)
        write_json(artifacts / "sources/index.json", {"sources": {"toy": entry(artifacts / "episodes/toy", artifacts)}})
        with EpisodeWriter(artifacts / "rollout" / name, fps=5) as writer:
            for episode in tests:
                writer.add(episode)
        ids = [episode.id for episode in tests]
        parts = {"model": "supervised", "decoding": "swr", "sampling": "greedy", "samples": [0] * len(ids)}
        write_json(artifacts / "rollout/index.json", [{"name": name, "folder": name, "episodes": ids} | parts])
    assert main(["diff", *map(str, runs), "--html", str(tmp_path / "page")]) == 0
    assert str(tmp_path / "page/index.html") in capsys.readouterr().err
    page = (tmp_path / "page/index.html").read_text()
    assert "rollout.decodings.swr.window" in page
    clips = sorted(path.name for path in (tmp_path / "page/clips").rglob("*.webp"))
    assert clips == sorted(["a.webp", "b.webp", "ground_truth.webp"] * 3)


def test_a_key_covers_the_fields_below_it() -> None:
    assert covers("rollout", "rollout.decodings.swr.window")
    assert covers("evaluation.perceptual", "evaluation.perceptual.kind")
    assert covers("sources.*", "sources.fetch.length")
    assert not covers("evaluation.perceptual", "evaluation.draws")
    assert not covers("rollout.decodings", "rollout")


def test_the_fields_of_a_stage_are_those_that_its_graph_declares() -> None:
    graph = "stages: {judge: {cmd: x, params: [{'a.yaml': ['${item.judge}', reward]}]}, report: {cmd: x}}"
    assert stage_fields(graph) == {"judge": ["*", "reward"]}
    assert stage_fields("") == {}


def test_code_is_counted_by_folder() -> None:
    a = {"roboalign/rl/a.py": "1", "roboalign/rl/b.py": "1", "stages/rl.py": "1", "roboalign/io.py": "1"}
    b = {"roboalign/rl/a.py": "2", "stages/rl.py": "1", "roboalign/io.py": "2"}
    assert code_changes(a, b) == {"roboalign/io.py": 1, "roboalign/rl": 2}


def test_a_metric_moves_if_its_difference_exceeds_both_intervals() -> None:
    a = {"rl": {"x": {"mean": 1.0, "low": 0.7, "high": 1.3}, "y": {"mean": 1.0, "low": 0.9, "high": 1.1}, "n": 3}}
    b = {"rl": {"x": {"mean": 1.4, "low": 1.0, "high": 1.8}, "y": {"mean": 1.4, "low": 1.3, "high": 1.5}, "n": 4}}
    changes = {change.metric: change for change in metric_changes(a, b)}
    assert changes["rl/x"].margin == pytest.approx(0.5)
    assert changes["rl/x"].is_noise
    assert not changes["rl/y"].is_noise
    assert list(intervals({"evaluation": {"models": {"m": a["rl"]["x"]}}})) == []
