"""RLVR-World's architecture as a tokenizer of this package; test_rlvr_world.py compares it with the peer's."""

from typing import Any

import pytest
import torch
from torch import Tensor

from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.interface import Tokenizer
from roboalign.tokenizer.model import build_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec


def tokenizer(**changes: Any) -> Tokenizer:
    fields = {
        "height": 16, "width": 24, "widths": [32, 64], "blocks": 1, "context_grid": [8, 12], "dynamics_grid": [2, 3],
        "context_levels": [5, 4], "dynamics_levels": [4, 5, 3], "attention": {"heads": 4, "max_height": 8},
        "architecture": {"kind": "compressive", "latent_channels": 4, "groups": 8},
        "training": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3},
    }  # fmt: skip
    torch.manual_seed(0)
    return build_tokenizer(TokenizerSpec.model_validate(fields | changes)).eval()


def frames(*shape: int) -> Tensor:
    return torch.rand(*shape, 3, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": {"heads": 2, "max_height": 16}},
        {"architecture": {"kind": "compressive", "latent_channels": 4, "groups": 8, "context_attention": True}},
        {"widths": [32], "context_grid": [16, 24], "dynamics_grid": [4, 6], "attention": {"max_height": 0}},
    ],
    ids=str,
)
def test_tokens_decode_to_what_training_saw(changes: dict[str, Any]) -> None:
    model, later = tokenizer(**changes), frames(2, 3)
    with torch.no_grad():
        context = model.encode_context(frames(2))
        tokens = model.encode(context, later)
        video = model.decode(context, tokens)
        trained_context, trained = model(frames(2), later)
    assert context.tokens.shape == (2, model.spec.context_tokens + model.spec.dynamics_tokens)
    assert tokens.shape == (2, 3, model.spec.dynamics_tokens)
    assert (tokens.dtype, int(tokens.max()) < model.spec.dynamics_codes) == (torch.int64, True)
    assert video.shape == later.shape
    torch.testing.assert_close(trained.clamp(0, 1), video, atol=1e-4, rtol=0)
    torch.testing.assert_close(trained_context.clamp(0, 1), model.decode_context(context.tokens), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.decode_values(context, model.code_values(tokens)), video)


def test_a_frame_has_the_same_bits_in_any_batch() -> None:
    model = BatchInvariantTokenizer(tokenizer())
    context, tokens = model.encode_context(frames(3)), torch.arange(6).expand(3, 2, 6) * 7 % 60
    whole = model.decode(context, tokens)
    assert torch.equal(model.decode(context.select([2, 0]), tokens[[2, 0]]), whole[[2, 0]])
    assert torch.equal(model.encode_context(frames(3)[1:2]).tokens, context.tokens[1:2])
    # What a frame shows depends on its context and its own tokens.
    assert not torch.allclose(whole[0], whole[1], atol=1e-4)
    assert not torch.allclose(model.decode(context, tokens * 0), whole, atol=1e-4)


def test_every_parameter_learns() -> None:
    model = tokenizer().train()
    context, video = model(frames(2), frames(2, 2))
    ((context - frames(2)).square().mean() + (video - frames(2, 2)).square().mean()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key's bias shifts all scores of a query alike: softmax does not see it.
    assert [name for name in still if not name.endswith("key.bias")] == []


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames are \(3, 24, 16\), the tokenizer takes \(3, 16, 24\)"):
        tokenizer().encode_context(frames(1).transpose(-1, -2))
