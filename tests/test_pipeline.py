"""The smoke experiment end to end, in a clean clone: run, run again, edit, kill, force. Minutes long."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
LIMIT = 2400
"""Maximum seconds of one command; `dvc repro` takes five minutes on two free cores, and more beside other work."""


def sh(folder: Path, *command: str, check: bool = True) -> str:
    """Run a command in `folder`; its output, or a failure that shows it."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{output[-6000:]}"
    return output


def ran(output: str) -> list[str]:
    """The stages that a `dvc repro` ran, in order."""
    return re.findall(r"Running stage '([^']+)'", output)


def metrics(folder: Path, name: str) -> dict[str, object]:
    return dict(json.loads((folder / "metrics" / f"{name}.json").read_text()))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what is tracked or new here, switched to the smoke experiment, run once from nothing."""
    folder = tmp_path_factory.mktemp("clone")
    listed = sh(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    sh(folder, "git", "init", "-q")
    sh(folder, "git", "config", "user.email", "test@example.org")
    sh(folder, "git", "config", "user.name", "test")
    sh(folder, "python", "-m", "roboalign", "use", "smoke")
    sh(folder, "git", "add", "-A")
    sh(folder, "git", "commit", "-q", "-m", "smoke")
    started = time.monotonic()
    stages = ran(sh(folder, "dvc", "repro"))
    print(f"\nsmoke: {len(stages)} stages in {time.monotonic() - started:.0f} s")
    assert stages[0] == "compose"
    assert stages[-1] == "report"
    sh(folder, "git", "add", "-A")
    sh(folder, "git", "commit", "-q", "-m", "results")
    return folder


CONTRACT: dict[str, tuple[str, ...]] = {
    "tokenizer": ("psnr", "ssim", "perceptual", "copy_context_psnr", "copy_last_psnr", "codes_used_fraction", "n"),
    "world_model": (
        "psnr",
        "ssim",
        "perceptual",
        "copy_context_psnr",
        "copy_last_psnr",
        "action_gap_psnr",
        "horizon",
        "n",
    ),
    "probe/judge": ("sources", "n", "true", "reconstructed", "generated", "baselines", "by_source", "outcome"),
    "probe/gold": ("sources", "n", "true", "reconstructed", "generated", "baselines", "by_source"),
    "probe/held_out": ("sources", "n", "outcome"),
    "bench": ("pairs", "by_source", "by_origin", "by_degradation", "by_provenance"),
    "judge": ("total", "faithful", "stability_sd", "within_groups", "n"),
    "held_out": ("total", "faithful", "stability_sd", "within_groups", "n"),
    "student": ("total", "faithful", "within_groups", "parameters", "scenes_known"),
    "rl": ("reward", "kl", "steps", "repeated_frames", "motion_ratio", "indicators", "gradient_cosine", "prompts"),
    "policies": ("policies", "agreement", "by_horizon", "by_decoding", "by_judge", "baselines", "optimism"),
    "rollout": (),
    "drift": ("epsilon", "delta", "swept_window"),
    "evaluation": ("models", "differences", "gates", "gates_not_measured", "outcomes"),
    "summary": ("tokenizer", "world_model", "ar", "swr", "student", "supervised", "aligned", "alignment_gain", "gates"),
}
"""Keys that every experiment's metrics hold. What a few test episodes leave undefined at this scale is absent there:
the judge on held-out degradations, the errors of a probe whose few tasks no test episode has, gold of sources that its
probe hardly sees, the drift's alpha and what follows from it. Times are in timings/, not hashed."""


@pytest.mark.parametrize("name", CONTRACT)
def test_every_metrics_file_of_the_contract_is_written(clone: Path, name: str) -> None:
    found = metrics(clone, name)
    assert found
    assert not set(CONTRACT[name]) - set(found), f"metrics/{name}.json lacks keys of the contract"
    assert "null" not in (clone / "metrics" / f"{name}.json").read_text()


def test_every_clip_set_is_scored_by_every_scorer(clone: Path) -> None:
    evaluation = metrics(clone, "evaluation")
    models = evaluation["models"]
    assert isinstance(models, dict)
    learned = {f"{name}{suffix}" for name in ("student", "judge", "held_out") for suffix in ("", "_faithful")}
    for name in ("ground_truth", "supervised.swr.greedy", "aligned.swr.greedy"):
        assert learned <= set(models[name]), name


def test_the_guard_checked_before_and_after(clone: Path) -> None:
    rows = (clone / "plots/rl_checks.tsv").read_text().splitlines()
    header, checks = rows[0].split("\t"), rows[1:]
    assert {"step", "proxy", "confirmed", "psnr", "kl"} <= set(header)
    assert len(checks) >= 2
    assert checks[0].split("\t")[header.index("step")] == "0"


def test_the_report_opens_without_a_network(clone: Path) -> None:
    page = (clone / "report/index.html").read_text()
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", page)
    assert "<script src" not in page
    assert str(clone) not in page


def test_a_second_run_runs_nothing(clone: Path) -> None:
    assert ran(sh(clone, "dvc", "repro")) == []


def test_nothing_runs_after_a_colleagues_pull(clone: Path, tmp_path: Path) -> None:
    sh(clone, "dvc", "remote", "add", "--local", "storage", str(tmp_path / "remote"))
    sh(clone, "dvc", "push", "-r", "storage")
    assert "in the remote storage too" in sh(clone, "python", "-m", "roboalign", "verify", "--remote", "storage")
    copy = tmp_path / "copy"
    sh(tmp_path, "git", "clone", "-q", str(clone), str(copy))
    shutil.copy(clone / ".dvc/config.local", copy / ".dvc/config.local")
    sh(copy, "dvc", "pull", "-r", "storage")
    assert "up to date" in sh(copy, "dvc", "status")
    assert ran(sh(copy, "dvc", "repro")) == []


def test_a_comment_re_runs_compose_alone(clone: Path) -> None:
    file = next(iter(sorted((clone / "specs/tokenizer").glob("*.yaml"))))
    text = file.read_text()
    file.write_text(text + "# a comment\n")
    assert ran(sh(clone, "dvc", "repro")) == ["compose"]
    file.write_text(text)
    sh(clone, "dvc", "repro")


def test_the_window_re_runs_rollout_evaluation_and_report(clone: Path) -> None:
    before = metrics(clone, "rollout")
    window = yaml.safe_load((clone / "build/spec/rollout.yaml").read_text())["rollout"]["decodings"]["swr"]["window"]
    output = sh(clone, "dvc", "exp", "run", "-S", f"++set.rollout.decodings.swr.window={window + 1}")
    assert ran(output) == ["compose", "rollout", "evaluation", "report"]
    difference = sh(clone, "dvc", "exp", "diff")
    assert re.search(rf"rollout\.decodings\.swr\.window\s*\S*\s*{window}\s*\S*\s*{window + 1}", difference), difference
    assert re.search(r"metrics/summary\.json\s*\S*\s*swr\.psnr", difference), difference
    assert set(re.findall(r"metrics/\S+", difference)) == {"metrics/summary.json"}
    assert metrics(clone, "rollout") != before
    sh(clone, "git", "checkout", "-q", ".")
    sh(clone, "dvc", "checkout")
    assert ran(sh(clone, "dvc", "repro")) == []


def test_a_misspelled_key_stops_at_compose_and_loses_nothing(clone: Path) -> None:
    file = clone / "params.yaml"
    text = file.read_text()
    built = {path.name: path.read_text() for path in (clone / "build/spec").iterdir()}
    file.write_text(text.replace("\nuse:\n", "\nuse:\n  rolout: w6\n", 1))
    output = sh(clone, "dvc", "repro", check=False)
    assert "did you mean 'rollout'" in output
    assert "Traceback" not in output
    assert {path.name: path.read_text() for path in (clone / "build/spec").iterdir()} == built
    file.write_text(text)
    assert ran(sh(clone, "dvc", "repro")) == []


@pytest.mark.parametrize("stage", ["tokenizer", "world_model", "rl"])
def test_a_killed_stage_resumes_and_ends_with_the_same_weights(clone: Path, stage: str) -> None:
    lock = (clone / "dvc.lock").read_bytes()
    process = subprocess.Popen(
        ["dvc", "repro", "-f", "-s", stage],
        cwd=clone,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    scratch = clone / ".scratch" / stage
    deadline = time.monotonic() + 300
    while not list(scratch.glob("*/checkpoint.safetensors")):
        assert process.poll() is None, "the stage ended before it wrote a scratch checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    output = sh(clone, "dvc", "repro", "-f", "-s", stage)
    assert "resumes at step" in output
    assert (clone / "dvc.lock").read_bytes() == lock
