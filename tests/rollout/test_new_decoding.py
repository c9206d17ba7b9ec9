"""A decoding added to a copy of the checkout by the steps of the README, "Extend"."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FILE = '''"""SWR whose fresh contexts are the mean of the last and the first frame."""

from torch import Tensor

from roboalign.rollout.interfaces import ContextT, StateT
from roboalign.rollout.swr import SwrDecoder


class MeanSwrDecoder(SwrDecoder[ContextT, StateT]):
    def _fresh_image(self, last: Tensor) -> Tensor:
        return (last + self.first_frame) / 2
'''

SPEC = '''class MeanSwrSpec(WindowedSpec):
    """As `swr`, but the fresh context is the mean of the last and the first frame."""

    kind: Literal["swr_mean"] = "swr_mean"
    """The decoding."""


'''

BRANCH = """        case MeanSwrSpec():
            return MeanSwrDecoder(tokenizer, sampler, start, spec.window)
"""

IMPORTS = """from roboalign.rollout.spec import MeanSwrSpec
from roboalign.rollout.swr_mean import MeanSwrDecoder
"""

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

import torch
from rollout_fakes import ToySampler, ToyTokenizer, level, picture
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.rollout import rollout
from roboalign.rollout.suite import rollout_sets

assert "supervised.mean5.greedy" in [one.name for one in rollout_sets(experiment.rollout)]
frames, mask = picture(torch.tensor([100])), torch.ones(1, 1, dtype=torch.bool)
prompt = Prompt(frames, torch.full((1, 10, 1), 0.01), mask, torch.tensor([3]))
result = rollout(experiment.rollout.decodings["mean5"], ToyTokenizer(), ToySampler(), prompt)
print("levels", *level(result.frames)[0].tolist(), "peak", result.peak_sequence)
"""


def insert(file: Path, before: str, text: str) -> None:
    """Insert `text` before the one place that begins with `before`."""
    content = file.read_text(encoding="utf-8")
    assert content.count(before) == 1, f"{file} has {before!r} {content.count(before)} times"
    file.write_text(content.replace(before, text + before), encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code and the specs."""
    for folder in ("roboalign", "stages", "specs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_decoding_is_a_file_a_spec_class_a_member_and_a_branch(checkout: Path) -> None:
    part = checkout / "roboalign/rollout"
    (part / "swr_mean.py").write_text(FILE, encoding="utf-8")
    insert(part / "spec.py", "class EntropySwrSpec(", SPEC)
    insert(part / "spec.py", '\n)\n"""A decoding with all of its numbers', "\n    | MeanSwrSpec")
    insert(part / "build.py", "        case _:", BRANCH)
    insert(part / "build.py", "from roboalign.rollout.swr import", IMPORTS)
    specs = checkout / "specs/rollout/w6.yaml"
    insert(specs, "  kv_window: {", "  mean5: {kind: swr_mean, window: 5}\n")
    insert(specs, ", kv_window, true_refresh]", ", mean5")
    path = f"{checkout}:{ROOT / 'tests/rollout'}"
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=checkout, env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Five frames of +10 from level 100, then five from the mean of 100 and 150.
    assert "levels 100 110 120 130 140 150 135 145 155 165 175 peak 11" in done.stdout
