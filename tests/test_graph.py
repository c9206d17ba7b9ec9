"""The stage graph against the code: what a stage imports is among its dependencies, so that a change re-runs it."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import yaml

from roboalign.export.folder import Part
from roboalign.probe.spec import ProbeName
from roboalign.spec.graph import stages

GRAPH = yaml.safe_load(Path("dvc.yaml").read_text())
STAGES = GRAPH["stages"]

INFRASTRUCTURE = {"roboalign/spec", "roboalign/types.py", "roboalign/io.py", "roboalign/checkpoint.py"} | {
    "roboalign/run.py",
    "roboalign/machine.py",
    "roboalign/loggers.py",
    "roboalign/progress.py",
    "roboalign/distributed.py",
    "roboalign/sharded_weights.py",
    "roboalign/executor.py",
    "roboalign/errors.py",
    "roboalign/initial_weights.py",
    "roboalign/hardware",
}
"""Code below every stage that does not decide results; not declared, so that a change of it re-runs nothing."""


def file_of(module: str) -> Path | None:
    path = Path(module.replace(".", "/"))
    if path.with_suffix(".py").exists():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").exists() else None


@cache
def imports(file: Path) -> frozenset[Path]:
    """The files of this repository that `file` imports, directly or not."""
    found: set[Path] = set()
    todo = [file]
    while todo:
        for node in ast.walk(ast.parse(todo.pop().read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            for module in modules:
                target = file_of(module) if module.split(".")[0] in ("roboalign", "stages") else None
                if target and target not in found:
                    found.add(target)
                    todo.append(target)
    return frozenset(found)


def within(file: Path, folders: set[str]) -> bool:
    return any(file == Path(folder) or Path(folder) in file.parents for folder in folders)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports(name: str) -> None:
    declared = set(STAGES[name]["deps"]) | INFRASTRUCTURE
    missing = {
        str(file)
        for file in imports(Path(f"stages/{name}.py"))
        if file.name != "__init__.py" and not within(file, declared)
    }
    assert not missing, f"dvc.yaml: stage {name} imports these, but does not declare them under deps"
    assert f"stages/{name}.py" in declared


@pytest.mark.parametrize("name", STAGES)
def test_the_declared_code_exists(name: str) -> None:
    for dependency in STAGES[name]["deps"]:
        if dependency.startswith(("roboalign", "stages", "specs")):
            assert Path(dependency).exists(), dependency


def test_the_headline_figures_are_the_only_metrics_file() -> None:
    """`dvc exp show` and `dvc exp diff` print every number of every file under `metrics:`."""
    assert [path for stage in STAGES.values() for entry in stage.get("metrics", []) for path in entry] == [
        "metrics/summary.json"
    ]
    assert "metrics" not in GRAPH


@pytest.mark.parametrize("name", sorted(STAGES.keys() - {"compose"}))
def test_dvc_restores_earlier_runs_of_a_stage(name: str) -> None:
    """DVC's run cache has no stage with `persist`, or with `cache: false` outside of `metrics:` and `plots:`."""
    assert all(isinstance(out, str) for out in STAGES[name]["outs"])


def test_every_trained_part_has_a_name_in_model_registries() -> None:
    trained = {f"artifacts/{part}" for part in get_args(Part)} | {
        f"artifacts/probe/{name}" for name in get_args(ProbeName)
    }
    assert {entry["path"] for entry in GRAPH["artifacts"].values()} == trained
    cached = {path for stage in stages(Path(), {"sources": ["fetch"]}) for path in stage.pushed}
    assert trained <= cached
    for name, entry in GRAPH["artifacts"].items():
        assert re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name), f"GTO does not accept {name}"
        assert entry["type"] == "model"
        assert entry["desc"]
        assert entry["labels"]
