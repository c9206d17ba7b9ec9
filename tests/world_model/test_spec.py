import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from pydantic import ValidationError

from roboalign.world_model.layout import SequenceLayout, TokenShape
from roboalign.world_model.spec import WorldModelSpec
from tests.world_model.conftest import SHAPE

VARIANTS = [
    {},
    {"kv_heads": 1},
    {"embedding": "table"},
    {"previous_codes": False},
    {"actions": {"kind": "tokens", "bins": 16, "width": 5}},
    {"actions": {"kind": "slot", "bins": 8, "every_slot": False}},
    {"contexts": 2, "segment": {"reencoded": 0.5}},
    {"still_tokens": True},
    {"proprioception": {}},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_parameters_are_those_of_the_model(model_of, spec_of, changes):
    spec = spec_of(**changes)
    shape = replace(SHAPE, proprioception_width=2)
    counted = sum(parameter.numel() for parameter in model_of(shape, **changes).parameters())
    assert spec.parameters(6, 4, SHAPE.context_levels, SHAPE.dynamics_levels, SHAPE.action_width, 2) == counted


def test_the_spec_counts_tokens_as_the_layout_does(spec_of):
    spec = spec_of(actions={"kind": "tokens", "width": 13})
    layout = SequenceLayout(1280, spec.action_slots, 80)
    assert spec.frame_tokens(80) == layout.frame == 93
    assert spec.sequence_tokens(1280, 80, 30) == layout.length(30) == 1280 + 30 * 93
    assert spec_of(contexts=2, segment={"reencoded": 0.5}).sequence_tokens(6, 4, 2) == 2 * 6 + 2 * 5
    still = spec_of(actions={"kind": "tokens", "width": 13}, still_tokens=True)
    assert still.sequence_tokens(1280, 80, 7) == SequenceLayout(1280, 13, 80, still=80).length(7) == 1360 + 7 * 93


def test_two_contexts_that_never_differ_in_training_are_refused(spec_of):
    with pytest.raises(ValidationError) as error:
        spec_of(contexts=2)
    [found] = error.value.errors()
    assert found["loc"] == ("contexts",)
    assert "segment.reencoded 0" in found["msg"]


def test_the_cache_of_a_long_rollout(spec_of):
    assert spec_of(kv_heads=1).cache_bytes(100, rows=5) == 2 * 2 * 1 * 8 * 100 * 5 * 4


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"hidden_size": 25}, "heads"), ({"hidden_size": 27}, "heads"), ({"kv_heads": 2}, "kv_heads")],
)
def test_heads_that_do_not_divide_are_refused_at_their_field(spec_of, changes, field):
    with pytest.raises(ValidationError) as error:
        spec_of(**changes)
    assert [item["loc"] for item in error.value.errors()] == [(field,)]


@pytest.mark.parametrize("name", ["tiny", "smoke", "paper"])
def test_shipped_specs_are_valid(name):
    with open(f"specs/world_model/{name}.yaml") as file:
        WorldModelSpec.model_validate(yaml.safe_load(file))


def test_the_paper_spec_has_the_papers_size():
    with open("specs/world_model/paper.yaml") as file:
        spec = WorldModelSpec.model_validate(yaml.safe_load(file))
    levels = (7, 5, 5, 5, 5)
    # RLVR-World's 127 M count output rows for context, action and text-end tokens, which nothing ever predicts.
    assert abs(spec.parameters(1280, 80, levels, levels, 13) / 127e6 - 1) < 0.03
    assert spec.sequence_tokens(1280, 80, 30) <= spec.max_position_embeddings


def test_the_spec_needs_no_torch():
    code = "import sys, roboalign.world_model.spec, roboalign.world_model.layout; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_token_shapes_survive_json():
    assert TokenShape.load(SHAPE.dump()) == SHAPE
    with pytest.raises(KeyError):
        TokenShape.load({})
