"""The specs of policies: what is refused, and which networks are shared."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from roboalign.policies.spec import BehaviorCloningSpec, PoliciesSpec, PolicySpec

MODEL = {"kind": "convolutional", "training": {"steps": 1, "batch_size": 1, "learning_rate": 0.1}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "scripted", "actor": "wrong_goal", "noise": 0.1}, "noise is for the expert"),
        ({"kind": "server", "url": "http://localhost:1"}, "not the address of a websocket"),
        ({"kind": "server", "url": "ws://"}, "not the address of a websocket|at least"),
        ({"kind": "planner", "samples": 4, "elites": 4}, "not below samples"),
        ({"kind": "planner", "horizon": 2, "execute": 3}, "above the horizon"),
        ({"kind": "callable", "name": "os:system"}, "callable"),
        ({"kind": "behavior_cloning", "model": {**MODEL, "widths": [8, 12]}}, "multiple of 8"),
        ({"kind": "visual_servoing", "probe": "gold"}, "judge"),
        ({"kind": "visual_servoing", "gain": 1.5}, "less than or equal to 1"),
        ({"kind": "visual_servoing", "goal_offset": [0.1, 0.0]}, "goal_offset"),
        ({"kind": "constant", "action": 2.0}, "less than or equal to 1"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(PolicySpec).validate_python(fields)


def test_horizons_and_names_are_checked() -> None:
    with pytest.raises(ValidationError, match="above the horizon"):
        PoliciesSpec.model_validate({"horizon": 4, "horizons": [2, 5]})


def test_policies_of_equal_model_share_a_network() -> None:
    other = {**MODEL, "demonstrations": 3}
    spec = PoliciesSpec.model_validate(
        {
            "policies": {
                "a": {"kind": "behavior_cloning", "model": MODEL},
                "b": {"kind": "behavior_cloning", "model": MODEL, "noise": 0.2},
                "c": {"kind": "behavior_cloning", "model": other},
                "d": {"kind": "constant"},
            }
        }
    )
    assert list(spec.cloning_models) == ["a", "c"]
    cloned = [policy for policy in spec.policies.values() if isinstance(policy, BehaviorCloningSpec)]
    assert [spec.network_of(policy.model) for policy in cloned] == ["a", "a", "c"]
