from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from roboalign.bench.spec import BenchSpec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": ["flicker"], "degradations": [{"kind": "blur", "lowers": {"temporal": 0.1}}]}, "has no flicker"),
        (
            {"held_out": ["blur"], "degradations": [{"kind": "blur", "lowers": {"temporal": 0.1}}]},
            "training would have",
        ),
        ({"min_frames": 40}, "above max_frames"),
        ({"origins": {"real": 0.0, "policy": 0.0, "degraded": 0.0, "generated": 0.0}}, "every share is 0"),
        (
            {"degradations": [{"kind": "blur", "min_severity": 0.9, "max_severity": 0.5, "lowers": {"temporal": 0.1}}]},
            "above max_severity",
        ),
        ({"degradations": [{"kind": "blur", "lowers": {"beauty": 0.1}}]}, "beauty"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        BenchSpec.model_validate(change)


@pytest.mark.parametrize("path", sorted(Path("specs/bench").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path):
    BenchSpec.model_validate(yaml.safe_load(path.read_text()))


def test_greedy_rollouts_that_would_repeat_each_other_are_refused():
    group = {"split": "train", "prompts": 1, "size": 4, "greedy": 2, "frames": 4}
    with pytest.raises(ValidationError, match="2 greedy rollouts of 1 models would repeat each other"):
        BenchSpec.model_validate({"groups": [group]})
    BenchSpec.model_validate({"groups": [group | {"models": ["early", "final"]}]})
