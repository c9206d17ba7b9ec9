"""The example that users copy: short, and its policy passes the checks."""

import runpy
from pathlib import Path

import numpy as np
from policy_fakes import ROBOT, DotsEnv

from roboalign.policies.checked_policy import CheckedPolicy
from roboalign.policies.closed_loop import run_closed_loop

EXAMPLE = Path(__file__).parents[2] / "examples/evaluate_policy.py"


def test_the_policy_of_the_example_acts() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    made = runpy.run_path(str(EXAMPLE))["MyPolicy"](ROBOT)
    loop = run_closed_loop(
        CheckedPolicy("mine", made, ROBOT, 10.0), DotsEnv(2), ["toy/000000", "toy/000001"], [0, 1], 3
    )
    assert loop.actions.shape == (2, 3, 2)
    assert len(np.unique(loop.actions)) == loop.actions.size
