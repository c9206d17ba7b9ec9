from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from roboalign.reward.spec import RewardSpec

SHIPPED = sorted(Path("specs/reward").glob("*.yaml"))


def load(name: str) -> dict:
    return yaml.safe_load((Path("specs/reward") / f"{name}.yaml").read_text())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path):
    RewardSpec.model_validate(yaml.safe_load(path.read_text()))


def test_six_are_the_papers():
    six = RewardSpec.model_validate(load("six"))
    assert six.maxima == (3, 2, 1, 1, 1, 2)
    assert six.maximum == 10
    assert [d.group for d in six.dimensions] == ["task_alignment"] * 3 + ["physical_realism"] * 3


def test_a_dimension_can_be_dropped_or_added():
    value = load("six")
    del value["dimensions"][1]
    assert len(RewardSpec.model_validate(value).names) == 5
    assert RewardSpec.model_validate(load("seven")).names[-1] == "efficiency"


def test_two_dimensions_of_one_name_are_refused():
    value = load("six")
    value["dimensions"][2]["name"] = "contact_realism"
    with pytest.raises(ValidationError, match="two dimensions are named contact_realism"):
        RewardSpec.model_validate(value)


def test_all_weights_zero_is_refused():
    value = load("six")
    for dimension in value["dimensions"]:
        dimension["weight"] = 0
    with pytest.raises(ValidationError, match="weight 0"):
        RewardSpec.model_validate(value)


def test_an_unknown_labeller_is_refused():
    value = load("six")
    value["dimensions"][0]["labeller"] = {"kind": "beauty"}
    with pytest.raises(ValidationError):
        RewardSpec.model_validate(value)
