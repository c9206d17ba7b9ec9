"""New kinds of a part, added to a copy of the checkout by the steps of the README, "Extend"."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from extension import ROOT, copy_checkout
from extensions import EXTENSIONS

from roboalign.pipeline.judges import train_judge
from roboalign.reward.build import build_reward
from roboalign.rollout.build import build_decoder
from roboalign.run import Run
from roboalign.sources.builder import build_format_reader, build_simulator
from roboalign.spec.base import Spec

RUN = """
import sys
from pathlib import Path
from roboalign.__main__ import main
from roboalign.spec.compose import compose_params
from roboalign.spec.library import Library

assert main(["check"]) == 0
assert main(["plan"]) == 0
experiment = compose_params(Library()).require()
assert "torch" not in sys.modules
"""


def test_the_steps_of_the_readme_are_enough(tmp_path: Path) -> None:
    checkout, script = copy_checkout(tmp_path), RUN
    for kind, extension in EXTENSIONS.items():
        extension.apply(checkout)
        script += f"\nprint('### {kind}')\n{extension.part}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=checkout,
        env={"PYTHONPATH": f"{checkout}:{ROOT}", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [part.splitlines() for part in done.stdout.split("### ")[1:]]
    assert {lines[0]: lines[-1] for lines in printed} == {kind: each.printed for kind, each in EXTENSIONS.items()}


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_the_readme_names_every_step(kind: str) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Extend")[1].split("\n## ")[0]
    (row,) = (line for line in section.splitlines() if line.startswith(f"| a {kind}"))
    for step in EXTENSIONS[kind].steps:
        assert f"`{step}`" in row


def builders(folder: Path) -> dict[str, Callable[[Any], object]]:
    """Each builder, called with a spec alone."""
    nothing = cast(Any, None)
    run = Run("judge", "judge", {}, (), (Path("plots"),), folder)
    bench = cast(Any, type("Bench", (), {"filter": lambda self, split: []})())
    return {
        "decoding": lambda spec: build_decoder(spec, nothing, nothing, nothing),
        "reward": lambda spec: build_reward(spec, nothing, nothing),
        "data source": lambda spec: build_format_reader(spec, nothing),
        "simulator": lambda spec: build_simulator(spec, "task"),
        "judge": lambda spec: train_judge(run, "judge", spec, nothing, bench, nothing, nothing, 4, nothing),
    }


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_a_forgotten_branch_says_which_spec_has_none(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ForgottenSpec(Spec):
        number: int = 3

    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=r"unreachable, but got: ForgottenSpec\(number=3\)"):
        builders(tmp_path)[kind](ForgottenSpec())
