"""`plan` and `verify` against a dvc.lock that DVC itself wrote."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from roboalign.spec.compose import compose_params
from roboalign.spec.document import plain, read
from roboalign.spec.library import Library
from roboalign.spec.lock import Hashes, read_lock
from roboalign.spec.plan import Plan, plan
from roboalign.spec.verify import verify

ROOT = Path(__file__).parent.parent.parent

GRAPH = """
stages:
  compose:
    cmd: python -m stages.compose
    deps: [specs, code/spec]
    params: [use, sources, set]
    outs:
      - build/spec: {cache: false, persist: true}
  episodes:
    matrix:
      source: ${sources}
    cmd: mkdir -p art/${item.source} && echo ${item.source} > art/${item.source}/a && echo b > art/${item.source}/b
    params:
      - build/spec/sources.yaml: ["sources.${item.source}"]
    outs: ["art/${item.source}"]
  index:
    cmd: cat art/*/a > index
    deps: [art]
    params:
      - build/spec/sources.yaml: [sources]
    outs: [index]
  rollout:
    cmd: cp index roll && echo 1 > m.json
    deps: [index, code/rollout]
    params:
      - build/spec/rollout.yaml: [rollout]
      - build/spec/hardware.yaml: [hardware.device]
    outs: [roll]
    metrics:
      - m.json: {cache: false}
  report:
    cmd: cat roll m.json > page
    deps: [roll, m.json, build/spec]
    outs: [page]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project in git that `dvc repro` has just run."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "specs", root / "specs")
    for part in ("spec", "rollout"):
        (root / "code" / part / "__pycache__").mkdir(parents=True)
        (root / "code" / part / "x.py").write_text("1\n")
        (root / "code" / part / "__pycache__/x.pyc").write_text("1\n")
    for name in ("params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    (root / "dvc.yaml").write_text(GRAPH)
    command = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import roboalign.spec.compose as c; "
    command += "c.write(c.compose_params(c.Library()))"
    (root / "stages").mkdir()
    (root / "stages/compose.py").write_text(command)
    dvc = [sys.executable, "-m", "dvc"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    for arguments in (["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "repro", "-q"], ["git", "add", "-A"]):
        subprocess.run(arguments, cwd=root, check=True, capture_output=True, env={"PATH": path, "HOME": str(root)})
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *author, "commit", "-q", "-m", "x"], cwd=root, check=True, capture_output=True)
    return root


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the project for one test to edit."""
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def planned(root: Path) -> Plan:
    composition = compose_params(Library(root))
    composition.require()
    return plan(root, composition, plain(read(root / "params.yaml")))


def running(root: Path) -> dict[str, list[str]]:
    return {name: causes for name, causes in planned(root).causes.items() if causes}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_hashes_of_everything_are_those_that_dvc_recorded(finished: Path) -> None:
    hashes = Hashes(finished)
    for stage in read_lock(finished).values():
        for path, entry in {**stage.deps, **stage.outs}.items():
            assert hashes.of(path) == entry["md5"], path


def test_nothing_runs_after_a_run(project: Path) -> None:
    assert running(project) == {}
    assert planned(project).uncommitted == []


def test_an_edited_value_runs_its_stages_alone(project: Path) -> None:
    edit(project / "specs/rollout/w6.yaml", "swr, window: 6", "swr, window: 9")
    assert running(project) == {
        "compose": ["specs changed (w6.yaml)"],
        "rollout": ["rollout.decodings.swr.window 6 → 9"],
        "report": [
            "roll will change (rollout)",
            "m.json will change (rollout)",
            "build/spec will change (rollout.yaml)",
        ],
    }


def test_an_edited_comment_runs_compose_alone(project: Path) -> None:
    with (project / "specs/rollout/w6.yaml").open("a") as file:
        file.write("# a comment\n")
    assert list(running(project)) == ["compose"]


def test_another_variant_is_named_and_known_as_set_away(project: Path) -> None:
    edit(project / "params.yaml", "rollout: null", "rollout: w12")
    found = running(project)
    assert found["compose"] == ["use.rollout null → w12"]
    changed = ["rollout.decodings.swr.window 6 → 12", "rollout.decodings.true_refresh.window 6 → 12"]
    assert found["rollout"] == changed
    assert planned(project).uncommitted == ["use.rollout null → w12"]


def test_hardware_that_changes_no_result_runs_nothing_more(project: Path) -> None:
    edit(project / "params.yaml", "set: {}", "set: {hardware.executor.workers: 1}")
    assert list(running(project)) == ["compose", "report"]


def test_one_source_runs_alone_with_what_follows(project: Path) -> None:
    edit(project / "params.yaml", "set: {}", "set: {sources.fetch.seed: 5}")
    found = running(project)
    assert list(found) == ["compose", "episodes@fetch", "index", "rollout", "report"]
    assert found["episodes@fetch"] == ["sources.fetch.seed 0 → 5"]
    assert found["index"] == ["sources.fetch.seed 0 → 5", "art will change (episodes@fetch)"]


def test_edited_code_is_named(project: Path) -> None:
    (project / "code/rollout/x.py").write_text("2\n")
    assert running(project)["rollout"] == ["code/rollout changed (x.py)"]


def test_missing_and_changed_outputs_are_named(project: Path) -> None:
    (project / "roll").unlink()
    (project / "m.json").write_text("2\n")
    assert running(project)["rollout"] == [
        "roll is missing (DVC restores it if its cache has it)",
        "m.json was changed by hand",
    ]


def test_a_changed_command_and_a_new_stage(project: Path) -> None:
    edit(project / "dvc.yaml", "cmd: cat roll m.json > page", "cmd: cat roll > page")
    edit(project / "dvc.yaml", "  report:", "  more:\n    cmd: 'true'\n  report:")
    found = running(project)
    assert found["more"] == ["it has never run"]
    assert found["report"] == ["its command was `cat roll m.json > page`"]


def test_an_intact_project_is_verified(project: Path) -> None:
    assert [path for path, damaged in verify(project, cache=True) if damaged] == []


def test_a_flipped_bit_is_found_and_its_file_named(project: Path) -> None:
    file = project / "art/fetch/b"
    file.chmod(0o644)
    file.unlink()
    file.write_text("c\n")
    found = {path: [(item.path, item.message) for item in damaged] for path, damaged in verify(project) if damaged}
    assert found == {"art/fetch": [("art/fetch/b", "is damaged")]}


def test_a_flipped_bit_in_the_cache_is_found(project: Path) -> None:
    value = read_lock(project)["index"].outs["index"]["md5"]
    cached = project / ".dvc/cache/files/md5" / value[:2] / value[2:]
    cached.chmod(0o644)
    cached.write_text("rotten\n")
    found = [item.path for _, damaged in verify(project, cache=True) for item in damaged]
    assert found
    assert found[-1].endswith(f"{value[:2]}/{value[2:]}")


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roboalign", "--root", str(root), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_prints_the_plan_for_people_and_programs(project: Path) -> None:
    edit(project / "specs/rollout/w6.yaml", "swr, window: 6", "swr, window: 9")
    done = command(project, "plan")
    assert done.returncode == 0
    assert "dvc repro would run 3 of 8 stages" in done.stdout
    assert "rollout  rollout.decodings.swr.window 6 → 9" in done.stdout
    assert "world_model" in done.stdout
    value = json.loads(command(project, "plan", "--json").stdout)
    assert value["stages"]["rollout"] == ["rollout.decodings.swr.window 6 → 9"]
    assert {row["part"] for row in value["estimates"]} >= {"tokenizer", "world_model", "student", "rl", "rollout"}


def test_a_damaged_lock_is_an_error_and_no_traceback(project: Path) -> None:
    (project / "dvc.lock").write_text("schema: [\n")
    done = command(project, "plan")
    assert done.returncode == 2
    assert "dvc.lock:1:10: error" in done.stderr
    assert "Traceback" not in done.stderr
