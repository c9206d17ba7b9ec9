import math

import pytest
import torch

from roboalign.checkpoint import CheckpointError
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import (
    CodeEmbedding,
    WorldModel,
    discretise,
    load_world_model,
    log_probabilities,
    rotary,
    rotate,
    save_world_model,
    token_loss,
)
from tests.world_model.conftest import SHAPE

BINS = {"kind": "slot", "displacement": False}
VARIANTS = [
    {"actions": BINS},
    {"actions": BINS, "kv_heads": 1, "embedding": "table"},
    {},
    {"actions": {"kind": "tokens", "bins": 16, "width": 5}, "previous_codes": False},
]
GOLDEN = [4.00713, 3.00995, 4.03310, 3.53785]


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_token_depends_on_all_before_it_and_on_nothing_after(model_of, batch_of, changes):
    model, (context, dynamics, actions, mask) = model_of(**changes), batch_of()
    with torch.no_grad():
        before = model(context, dynamics, actions, mask)
        assert before.shape == (3, 4, 4, 15)
        for frame, place in ((0, 0), (1, 2), (3, 3)):
            changed = dynamics.clone()
            changed[:, frame, place] = (changed[:, frame, place] + 1) % 15
            displacement = (model(context, changed, actions, mask) - before).abs().amax((0, 3)).flatten()
            at = frame * 4 + place
            assert displacement[: at + 1].max() == 0  # its own logits too: a token does not see itself
            assert bool((displacement[at + 1 :] > 1e-6).all())


def test_a_frame_sees_its_own_action_and_no_later_one(model_of, batch_of):
    model, (context, dynamics, actions, mask) = model_of(), batch_of()
    changed = actions.clone()
    changed[:, 2] = -changed[:, 2]
    with torch.no_grad():
        displacement = (
            (model(context, dynamics, changed, mask) - model(context, dynamics, actions, mask)).abs().amax((0, 3))
        )
    assert displacement[:2].max() == 0
    assert bool((displacement[2:] > 1e-6).all())


def test_the_context_is_seen_by_all(model_of, batch_of):
    model, (context, dynamics, actions, mask) = model_of(), batch_of()
    with torch.no_grad():
        displacement = model(
            torch.cat([(context[:, :6] + 1) % 12, context[:, 6:]], 1), dynamics, actions, mask
        ) - model(context, dynamics, actions, mask)
    assert bool((displacement.abs().amax((0, 3)) > 1e-6).all())


def test_the_context_as_a_later_frame_stands_for_the_previous_codes_of_the_first(model_of, batch_of):
    model, (context, dynamics, actions, mask) = model_of(), batch_of()
    changed = context.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 15  # what is added where the first frame's last token is predicted
    with torch.no_grad():
        displacement = model(changed, dynamics, actions, mask) - model(context, dynamics, actions, mask)
        displacement = displacement.abs().amax((0, 3)).flatten()
        assert displacement[:3].max() == 0
        assert bool((displacement[3:] > 1e-6).all())
        with pytest.raises(ValueError, match="prompts have 6 codes, the model takes 6 of the context and 4"):
            model(context[:, :6], dynamics, actions, mask)


@pytest.mark.parametrize("kind", ["slot", "tokens"])
def test_a_masked_action_dimension_counts_for_nothing(model_of, batch_of, kind):
    model, (context, dynamics, actions, mask) = model_of(actions={"kind": kind, "bins": 8}), batch_of()
    changed = actions.clone()
    changed[:, :, -1] = -changed[:, :, -1]
    with torch.no_grad():
        displacement = (
            (model(context, dynamics, changed, mask) - model(context, dynamics, actions, mask)).abs().amax((1, 2, 3))
        )
    assert displacement[1] == 0  # row 1 lacks the last dimension
    assert displacement[0] > 1e-6
    assert displacement[2] > 1e-6


def test_more_action_dimensions_than_slots_are_refused(model_of):
    with pytest.raises(ValueError, match=r"world_model.actions.width is 2"):
        model_of(actions={"kind": "tokens", "width": 2})


def test_a_sequence_beyond_the_position_limit_is_refused(model_of, batch_of):
    with pytest.raises(ValueError, match=r"world_model.max_position_embeddings \(20\)"):
        model_of(max_position_embeddings=20)(*batch_of())


def test_actions_fall_into_uniform_bins():
    values = torch.tensor([-5.0, -1.0, -0.51, -0.49, 0.0, 0.49, 0.99, 1.0, 5.0])
    assert discretise(values, 4).tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 3]


def test_digit_embeddings_of_codes_add_up():
    embedding = CodeEmbedding((3, 5), 7, digits=True)
    codes = torch.tensor([0, 1, 3, 14])  # first digit fastest: (0,0), (1,0), (0,1), (2,4)
    expected = torch.stack([embedding.weight[a] + embedding.weight[3 + b] for a, b in ((0, 0), (1, 0), (0, 1), (2, 4))])
    torch.testing.assert_close(embedding(codes), expected)


def test_rotations_keep_lengths_and_depend_on_distance_alone():
    cosines, sines = rotary(8, 50, 10_000.0)
    a, b = torch.randn(8), torch.randn(8)

    def score(p: int, q: int) -> torch.Tensor:
        return rotate(a, cosines[p], sines[p]) @ rotate(b, cosines[q], sines[q])

    torch.testing.assert_close(score(7, 3), score(44, 40), atol=1e-5, rtol=0)
    assert abs(float(score(7, 3) - score(7, 4))) > 1e-3
    torch.testing.assert_close(rotate(a, cosines[9], sines[9]).norm(), a.norm())


def test_the_loss_is_the_mean_over_dynamics_tokens():
    logits, dynamics = torch.zeros(2, 3, 4, 15), torch.zeros(2, 3, 4, dtype=torch.long)
    assert token_loss(logits, dynamics).item() == pytest.approx(math.log(15))
    logits[0, 0, 0, 0] = math.log(14)  # that code alone has the probability 1/2
    torch.testing.assert_close(log_probabilities(logits, dynamics)[0, 0, 0], torch.tensor(-math.log(2)))
    assert token_loss(logits, dynamics).item() == pytest.approx((23 * math.log(15) + math.log(2)) / 24)


def test_changed_codes_can_weigh_more():
    logits, dynamics = torch.zeros(1, 2, 2, 15), torch.tensor([[[3, 3], [3, 4]]])
    logits[0, 1, 1, 4] = math.log(14)
    # Three tokens of weight 1, and of weight 1 + 2 the one whose code changed.
    assert token_loss(logits, dynamics, 2.0).item() == pytest.approx((3 * math.log(15) + 3 * math.log(2)) / 6)


@pytest.mark.parametrize(("changes", "golden"), list(zip(VARIANTS, GOLDEN, strict=True)))
def test_golden_loss(model_of, batch_of, changes, golden):
    """Weights from a formula, so that the figure depends on the mathematics alone."""
    model, batch = model_of(**changes), batch_of()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            waves = (torch.arange(parameter.numel()) * 0.7 + number).sin()
            parameter.copy_((parameter.ndim == 1) + 0.3 * waves.view(parameter.shape))
        assert token_loss(model(*batch), batch[1]).item() == pytest.approx(golden, abs=1e-4)


def test_training_learns_a_rule_of_the_actions(spec_of):
    """The code of a frame is a function of its action: only a model that reads actions gets near zero loss."""
    torch.manual_seed(0)
    shape = TokenShape(2, 1, (3,), (4,), 1)
    model = WorldModel(spec_of(layers=1, actions={"kind": "slot", "bins": 4}), shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    context, mask = torch.zeros(16, 3, dtype=torch.long), torch.ones(16, 1, dtype=torch.bool)
    for _ in range(60):
        dynamics = torch.randint(4, (16, 5, 1))
        actions = (dynamics + 0.5) / 2 - 1
        loss = token_loss(model(context, dynamics, actions, mask), dynamics)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < math.log(4)


PLAIN = {"actions": {"kind": "tokens", "bins": 8, "width": 4}, "embedding": "table", "previous_codes": False,
         "places": False, "still_tokens": True}  # fmt: skip
TWO_CONTEXTS = {"contexts": 2, "segment": {"frames": 4, "reencoded": 0.5}}


@pytest.mark.parametrize(
    "changes", [{}, {"kv_heads": 1}, PLAIN, TWO_CONTEXTS], ids=["default", "grouped", "plain", "2"]
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_sequences_that_share_a_prompt_get_the_logits_and_gradients_of_separate_ones(
    model_of, batch_of, changes, checkpointing
):
    model = model_of(**changes)
    model.activation_checkpointing = checkpointing
    prompts, _, _, _ = batch_of(rows=2)
    _, dynamics, actions, mask = batch_of(rows=6, seed=2)

    def run(context):
        logits = model(context, dynamics, actions, mask)
        return logits, torch.autograd.grad(token_loss(logits, dynamics), model.parameters())

    (logits, gradients), (shared, shared_gradients) = run(prompts.repeat_interleave(3, 0)), run(prompts)
    torch.testing.assert_close(shared, logits, atol=1e-5, rtol=1e-5)
    for one, other in zip(shared_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="6 sequences cannot be divided among 4 prompts"):
        model(batch_of(rows=4)[0], dynamics, actions, mask)


def test_checkpoints_hold_spec_and_shape(model_of, batch_of, tmp_path):
    model, batch = model_of(kv_heads=1), batch_of()
    save_world_model(tmp_path / "a.safetensors", model, "hash")
    save_world_model(tmp_path / "b.safetensors", model, "hash")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = load_world_model(tmp_path / "a.safetensors")
    assert loaded.spec == model.spec
    assert loaded.shape == SHAPE
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(*batch), model(*batch))


def test_a_damaged_checkpoint_names_its_file(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors"):
        load_world_model(tmp_path / "model.safetensors")
