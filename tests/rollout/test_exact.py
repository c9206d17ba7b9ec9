"""The same seed gives the same video, alone or among others, before and after the models were saved."""

from pathlib import Path

import pytest
import torch
import yaml

from roboalign import checkpoint
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.rollout import rollout
from roboalign.rollout.spec import (
    AnchoredSwrSpec,
    ArSpec,
    CarryTokensSpec,
    EntropySwrSpec,
    FixedDecodingSpec,
    KvWindowSpec,
    SwrSpec,
    TwoContextsSwrSpec,
)
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.model import DualBranchTokenizer, load_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel, load_world_model, save_world_model, seeded_world_model
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.spec import WorldModelSpec

SPECS = Path(__file__).parents[2] / "specs"
ROWS, FRAMES = 8, 5


@pytest.fixture(scope="module")
def models() -> tuple[DualBranchTokenizer, WorldModel]:
    """A world model of two contexts, which every decoding can be made with."""
    spec = TokenizerSpec.model_validate(yaml.safe_load((SPECS / "tokenizer/smoke.yaml").read_text()))
    torch.manual_seed(0)
    tokenizer = DualBranchTokenizer(spec).eval()
    values = yaml.safe_load((SPECS / "world_model/smoke.yaml").read_text())
    values |= {"contexts": 2, "segment": values["segment"] | {"reencoded": 0.5}}
    return tokenizer, seeded_world_model(WorldModelSpec.model_validate(values), TokenShape.of(spec, 4), 0).eval()


def prompt() -> Prompt:
    generator = torch.Generator().manual_seed(3)
    actions = torch.rand(ROWS, FRAMES, 4, generator=generator) * 2 - 1
    pictures = torch.rand(ROWS, 3, 32, 32, generator=generator)
    return Prompt(pictures, actions, torch.ones(ROWS, 4, dtype=torch.bool), torch.arange(ROWS) + 11)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "decoding",
    [
        ArSpec(),
        SwrSpec(window=2),
        AnchoredSwrSpec(window=2),
        EntropySwrSpec(shortest=1, longest=3, rise=1.01),
        KvWindowSpec(frames=2),
        CarryTokensSpec(window=2),
        TwoContextsSwrSpec(window=2),
    ],
    ids=lambda d: d.kind,
)
def test_the_same_seed_gives_the_same_video(
    decoding: FixedDecodingSpec, temperature: float, models: tuple[DualBranchTokenizer, WorldModel], tmp_path: Path
) -> None:
    tokenizer, model = models
    whole = rollout(decoding, BatchInvariantTokenizer(tokenizer), Sampler(model, temperature=temperature), prompt())
    checkpoint.save_model(tmp_path / "tokenizer.safetensors", tokenizer, tokenizer.spec, "test")
    save_world_model(tmp_path / "model.safetensors", model, "test")
    again = BatchInvariantTokenizer(load_tokenizer(tmp_path / "tokenizer.safetensors"))
    sampler = Sampler(load_world_model(tmp_path / "model.safetensors"), temperature=temperature)
    for row in (0, 3, 7):
        alone = rollout(decoding, again, sampler, prompt().select(slice(row, row + 1)))
        assert torch.equal(alone.tokens[0], whole.tokens[row])
        assert torch.equal(alone.frames[0], whole.frames[row])
    assert not torch.equal(whole.frames[0], whole.frames[1])
