"""The planner finds the cheapest action sequence of a known cost, the same for the same seeds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from policy_fakes import ROBOT
from torch import Tensor

from roboalign.policies.planner import CEMPolicy
from roboalign.policies.spec import PlannerSpec

SPEC = PlannerSpec(kind="planner", horizon=4, samples=64, elites=8, iterations=6, execute=2, std=0.5, correlation=0.3)
IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


class Distance:
    """The cost is the distance of every action to a target, which depends on the instruction."""

    def __init__(self) -> None:
        self.calls: list[Mapping[str, Any]] = []

    def get_cost(self, info: Mapping[str, Any], action_candidates: Tensor) -> Tensor:
        self.calls.append(info)
        targets = torch.tensor([[0.6, -0.4] if text == "left" else [-0.2, 0.9] for text in info["instruction"]])
        return (action_candidates - targets[:, None, None]).square().sum((2, 3))


def test_it_finds_the_cheapest_actions_of_each_copy() -> None:
    cost = Distance()
    policy = CEMPolicy(SPEC, cost, ROBOT)
    policy.reset(["left", "right"], [3, 4])
    first = policy.act(IMAGES)
    np.testing.assert_allclose(first, ROBOT.denormalise(np.array([[0.6, -0.4], [-0.2, 0.9]], np.float32)), atol=0.25)
    assert len(cost.calls) == SPEC.iterations
    policy.act(IMAGES)
    assert len(cost.calls) == SPEC.iterations  # the second action of the same plan
    policy.act(IMAGES)
    assert len(cost.calls) == 2 * SPEC.iterations
    assert cost.calls[0]["seed"] == [3, 4]
    assert cost.calls[0]["pixels"] is IMAGES


def test_plans_depend_on_the_seed_alone() -> None:
    answers = []
    for seeds in ([3, 4], [3, 9], [3, 4]):
        policy = CEMPolicy(SPEC, Distance(), ROBOT)
        policy.reset(["left", "right"], seeds)
        answers.append(policy.act(IMAGES))
    np.testing.assert_array_equal(answers[0], answers[2])
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert not np.array_equal(answers[0][1], answers[1][1])
