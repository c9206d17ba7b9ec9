from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from roboalign.checkpoint import CheckpointError, save_model
from roboalign.tokenizer.fsq import FSQ
from roboalign.tokenizer.interface import EncodedContext
from roboalign.tokenizer.model import DualBranchTokenizer, Quantizer, load_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec


def spec(**changes: Any) -> TokenizerSpec:
    return TokenizerSpec.model_validate(
        {
            "height": 32, "width": 48, "patch": 4, "widths": [8, 16], "blocks": 1, "context_grid": [4, 6],
            "dynamics_grid": [2, 3], "context_levels": [5, 5], "dynamics_levels": [4, 5, 3], "warps": 2,
            "attention": {"heads": 2, "max_height": 4},
            "training": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3},
        }
        | changes
    )  # fmt: skip


def tokenizer(**changes: Any) -> DualBranchTokenizer:
    torch.manual_seed(0)
    return DualBranchTokenizer(spec(**changes)).eval()


def frames(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, 3, 32, 48, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (7, 5), (2,), (3, 4)])
def test_fsq_codes_and_values_are_two_views_of_one_thing(levels: tuple[int, ...]) -> None:
    fsq = FSQ(levels)
    every = torch.arange(fsq.codes)
    values = fsq.values(every)
    assert values.unique(dim=0).shape == (fsq.codes, len(levels))
    assert values.min() == -1
    assert values.max() == 1
    latent = 3 * torch.randn(500, len(levels), generator=torch.Generator().manual_seed(0))
    quantized, codes = fsq(latent)
    assert codes.min() >= 0 and codes.max() < fsq.codes  # noqa: PT018
    assert torch.allclose(quantized, fsq.values(codes), atol=1e-6)
    assert fsq(torch.full((1, len(levels)), 50.0))[1].item() == fsq.codes - 1
    assert fsq(torch.full((1, len(levels)), -50.0))[1].item() == 0


def test_fsq_passes_gradients_straight_through() -> None:
    latent = torch.tensor([[0.3, -0.2]], requires_grad=True)
    quantized, _ = FSQ((5, 5))(latent)
    quantized.sum().backward()
    assert latent.grad is not None
    # d/dx of (sigmoid(2x) * 5 - 0.5) * 2 / 4 - 1
    share = torch.sigmoid(2 * latent.detach())
    assert torch.allclose(latent.grad, 5 * share * (1 - share))


def test_folding_keeps_places() -> None:
    quantizer = Quantizer(1, (2, 3), (255,) * 6, normalise=False)
    eye = torch.eye(6)[:, :, None, None]
    with torch.no_grad():
        quantizer.project_in.weight.copy_(eye)
        quantizer.project_out.weight.copy_(eye)
        quantizer.project_in.bias.zero_()  # type: ignore[union-attr]
        quantizer.project_out.bias.zero_()  # type: ignore[union-attr]
        x = torch.linspace(-0.5, 0.5, 4 * 6).reshape(1, 1, 4, 6)
        output, codes = quantizer(x)
        assert codes.shape == (1, 4)
        assert (output.argsort(dim=-1) == x.argsort(dim=-1)).all()
        assert torch.allclose(output, torch.tanh(x), atol=0.02)
        assert torch.allclose(quantizer.features(codes, (2, 2)), output)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warps": 0},
        {"attention": {"max_height": 0}},
        {"dynamics_grid": [4, 6], "blocks": 2},
        {"context_grid": [8, 12]},
        {"patch": 2, "widths": [8, 8, 16], "dynamics_grid": [2, 1]},
    ],
    ids=str,
)
def test_tokens_decode_to_what_training_saw(changes: dict[str, Any]) -> None:
    model = tokenizer(**changes)
    with torch.no_grad():
        context = model.encode_context(frames(2))
        tokens = model.encode(context, frames(2, 3, seed=1))
        assert context.tokens.shape == (2, model.spec.context_tokens + model.spec.dynamics_tokens)
        assert tokens.shape == (2, 3, model.spec.dynamics_tokens)
        assert tokens.dtype == torch.int64
        assert tokens.max() < model.spec.dynamics_codes
        video = model.decode(context, tokens)
        assert video.shape == (2, 3, 3, 32, 48)
        assert video.min() >= 0
        assert video.max() <= 1
        trained_context, trained = model(frames(2), frames(2, 3, seed=1))
        assert torch.allclose(trained, video, atol=1e-5)
        assert torch.allclose(trained_context, model.decode_context(context.tokens), atol=1e-5)


def test_contexts_can_be_selected_and_repeated() -> None:
    model = tokenizer()
    with torch.no_grad():
        context = model.encode_context(frames(3))
        tokens = torch.randint(60, (3, 2, 6), generator=torch.Generator().manual_seed(0))
        whole = model.decode(context, tokens)
        assert torch.allclose(model.decode(context.select([2, 0]), tokens[[2, 0]]), whole[[2, 0]], atol=1e-6)
        one = context.select(slice(1, 2)).repeat(4)
        assert isinstance(one, EncodedContext)
        assert torch.allclose(
            model.decode(one, tokens[1:2].repeat(4, 1, 1)), whole[1:2].expand(4, -1, -1, -1, -1), atol=1e-6
        )
        order = context.repeat(2).pixels
        assert torch.equal(order[0], order[1])
        # Frame by frame, as a rollout decodes, or all at once.
        assert torch.allclose(model.decode(context, tokens[:, 1:]), whole[:, 1:], atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"warps": 0}])
def test_tokens_may_be_given_by_the_values_of_their_codes(changes: dict[str, Any]) -> None:
    model = tokenizer(**changes)
    context = model.encode_context(frames(2))
    tokens = torch.randint(60, (2, 3, 6), generator=torch.Generator().manual_seed(0))
    values = model.code_values(tokens)
    assert values.shape == (2, 3, 6, 3)
    torch.testing.assert_close(model.decode_values(context, values), model.decode(context, tokens))


def test_decoded_frames_have_gradients_to_the_values_of_their_own_tokens() -> None:
    model = tokenizer()
    with torch.no_grad():
        context = model.encode_context(frames(2))
    tokens = torch.randint(60, (2, 3, 6), generator=torch.Generator().manual_seed(0))
    values = model.code_values(tokens).requires_grad_()
    model.decode_values(context, values)[1, 2].sum().backward()
    assert values.grad is not None
    moved = values.grad.abs().sum((-1, -2)) > 0
    assert moved.tolist() == [[False, False, False], [False, False, True]]


def test_every_parameter_learns() -> None:
    model = tokenizer().train()
    context, video = model(frames(2), frames(2, 2, seed=1))
    ((context - frames(2)).square().mean() + (video - frames(2, 2, seed=1)).square().mean()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key's bias shifts all scores of a query alike: softmax does not see it.
    assert [name for name in still if not name.endswith("key.bias")] == []


def test_the_decoder_can_hand_on_and_displace_the_context() -> None:
    model = tokenizer(warps=1)
    image = frames(1)
    with torch.no_grad():
        model.head.last.weight.zero_()
        bias = model.head.last.bias
        assert bias is not None
        bias.zero_()
        patch = model.spec.patch**2
        bias[3 * patch : 4 * patch] = 50.0  # the context's share
        context = model.encode_context(image)
        tokens = torch.zeros(1, 1, 6, dtype=torch.int64)
        assert torch.allclose(model.decode(context, tokens)[0], image, atol=1e-5)
        bias[3 * patch : 4 * patch], bias[4 * patch : 5 * patch] = 0.0, 50.0  # the displaced copy's
        bias[5 * patch] = 2 * 3 / 48  # three columns to the right
        moved = model.decode(context, tokens)[0]
        assert torch.allclose(moved[..., :-3], image[..., 3:], atol=1e-4)


def test_a_saved_tokenizer_loads_frozen_and_equal(tmp_path: Path) -> None:
    model, path = tokenizer(), tmp_path / "model.safetensors"
    save_model(path, model, model.spec, "0" * 32)
    loaded = load_tokenizer(path)
    assert loaded.spec == model.spec
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded.encode_context(frames(2)).tokens, model.encode_context(frames(2)).tokens)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tokenizer(path)


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames are \(3, 48, 32\), the tokenizer takes \(3, 32, 48\)"):
        tokenizer().encode_context(frames(1).transpose(-1, -2))
