"""From a policy's spec to the policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from roboalign.policies.baselines import ConstantPolicy, RandomPolicy
from roboalign.policies.behavior_cloning import BehaviorCloningPolicy, CloningNetwork
from roboalign.policies.planner import CEMPolicy, CostModel
from roboalign.policies.policy import Policy, Robot
from roboalign.policies.server import ServerPolicy
from roboalign.policies.spec import (
    ActingPolicySpec,
    BehaviorCloningSpec,
    CloningModelSpec,
    ConstantPolicySpec,
    PlannerSpec,
    PolicyServerSpec,
    RandomPolicySpec,
    VisualServoingSpec,
)
from roboalign.policies.visual_servoing import ServoingParts, VisualServoingPolicy


@dataclass(frozen=True)
class PolicyParts:
    """Collaborators of policies that are loaded from an experiment."""

    network: Callable[[CloningModelSpec], CloningNetwork]
    """The trained network of a spec."""
    cost_model: Callable[[PlannerSpec, str], CostModel]
    """The world model that a planner plans with, for a source."""
    servoing: Callable[[VisualServoingSpec, str], ServoingParts]
    """Probe, controller and calibration of visual servoing, for a source."""
    time_limit: float
    """Maximum seconds of one answer of a policy server."""
    other_instructions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For each source, the instruction of another task for each of its instructions."""


def build_policy(spec: ActingPolicySpec, robot: Robot, parts: PolicyParts) -> Policy:
    """The policy of a spec for a robot."""
    match spec:
        case ConstantPolicySpec():
            return ConstantPolicy(spec, robot)
        case RandomPolicySpec():
            return RandomPolicy(spec, robot)
        case BehaviorCloningSpec():
            other = dict(parts.other_instructions.get(robot.source, {}))
            return BehaviorCloningPolicy(spec, parts.network(spec.model), robot, other)
        case VisualServoingSpec():
            return VisualServoingPolicy(spec, parts.servoing(spec, robot.source), robot)
        case PolicyServerSpec():
            return ServerPolicy(spec, robot, parts.time_limit)
        case PlannerSpec():
            return CEMPolicy(spec, parts.cost_model(spec, robot.source), robot)
        case _:
            assert_never(spec)
