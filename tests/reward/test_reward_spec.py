from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from roboalign import checkpoint
from roboalign.reward.spec import RewardSpec


def load(name: str) -> dict:
    return yaml.safe_load((Path("specs/reward") / f"{name}.yaml").read_text())


def test_six_are_the_papers():
    six = RewardSpec.model_validate(load("six"))
    assert six.max_scores == (3, 2, 1, 1, 1, 2)
    assert six.max_total == 10
    assert [d.group for d in six.dimensions.values()] == ["task_alignment"] * 3 + ["physical_realism"] * 3


def test_a_dimension_can_be_dropped_or_added():
    value = load("six")
    del value["dimensions"]["contact_realism"]
    assert len(RewardSpec.model_validate(value).names) == 5
    value["dimensions"] |= load("seven")["dimensions"]
    assert RewardSpec.model_validate(value).names[-1] == "efficiency"


def test_the_order_of_dimensions_survives_a_checkpoint(tmp_path):
    """They are the columns of every score vector."""
    six = RewardSpec.model_validate(load("six"))
    checkpoint.save(tmp_path / "model.safetensors", {}, reward=six.model_dump(mode="json"))
    _, metadata = checkpoint.load(tmp_path / "model.safetensors")
    assert RewardSpec.model_validate(metadata["reward"]).names == six.names != tuple(sorted(six.names))


def test_all_weights_zero_is_refused():
    value = load("six")
    for dimension in value["dimensions"].values():
        dimension["weight"] = 0
    with pytest.raises(ValidationError, match="weight 0"):
        RewardSpec.model_validate(value)


def test_an_unknown_labeller_is_refused():
    value = load("six")
    value["dimensions"]["contact_realism"]["labeller"] = {"kind": "beauty"}
    with pytest.raises(ValidationError):
        RewardSpec.model_validate(value)
