"""Policies that others wrote: functions and classes by name, and LeRobot's interface."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policy_fakes import ROBOT

from roboalign.policies.adapters import FunctionPolicy, LeRobotPolicy, load_callable
from roboalign.policies.checked_policy import PolicyError

MODULE = """
import numpy as np
def act(images, instructions):
    return np.full((len(images), 2), 0.5, np.float32)
class Mine:
    def __init__(self, robot): self.robot = robot
    def reset(self, instructions, seeds): self.seeds = seeds
    def act(self, images): return np.full((len(images), self.robot.action_width), -0.5, np.float32)
def make(robot): return Mine(robot)
def bad(robot): return 3
number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_policies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_policies", raising=False)
    return "my_policies"


@pytest.mark.parametrize(("name", "value"), [("act", 0.5), ("Mine", -0.5), ("make", -0.5)])
def test_functions_and_classes_are_policies(module: str, name: str, value: float) -> None:
    policy = load_callable(f"{module}:{name}", ROBOT)
    policy.reset(["a", "b"], [0, 1])
    np.testing.assert_array_equal(policy.act(np.zeros((2, 4, 4, 3), np.uint8)), np.full((2, 2), np.float32(value)))
    assert isinstance(policy, FunctionPolicy) == (name == "act")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_policies:bad", "returned a int without `reset` and `act`"),
        ("my_policies:number", "is a int; name a function or a class"),
        ("my_policies:none", "cannot be imported"),
        ("no_such_module:act", "cannot be imported"),
        ("my_policies", "write module:function"),
        (":act", "write module:function"),
    ],
)
def test_what_is_not_a_policy_is_named(module: str, name: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        load_callable(name, ROBOT)


def test_lerobot_policies_get_a_batch_and_forget_between_episodes() -> None:
    class SelectsMean:
        def __init__(self) -> None:
            self.resets, self.batches = 0, list[dict[str, Any]]()

        def reset(self) -> None:
            self.resets += 1

        def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
            self.batches.append(batch)
            actions: torch.Tensor = batch["pixels"].mean((1, 2, 3))[:, None].expand(-1, 2)
            return actions

    inner = SelectsMean()
    policy = LeRobotPolicy(
        inner,
        image_key="observation.images.top",
        preprocess=lambda batch: {"pixels": batch["observation.images.top"], "task": batch["task"]},
        postprocess=lambda actions: 2 * actions,
    )
    policy.reset(["push", "lift"], [0, 1])
    images = np.stack([np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 255, np.uint8)])
    np.testing.assert_allclose(policy.act(images), [[0, 0], [2, 2]])
    assert inner.resets == 1
    assert inner.batches[0]["pixels"].shape == (2, 3, 4, 6)
    assert inner.batches[0]["task"] == ["push", "lift"]
