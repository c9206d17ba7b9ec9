import pytest
import torch
from generation import generate

from roboalign.hardware.spec import SamplerSpec
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import log_probabilities
from roboalign.world_model.noise import gumbel, noise_keys
from roboalign.world_model.sampler import Sampler, restrict

VARIANTS = [
    {},
    {"kv_heads": 1, "embedding": "table"},
    {"actions": {"kind": "tokens", "bins": 16, "width": 5}, "previous_codes": False},
    {"actions": {"kind": "slot", "every_slot": False}},
    {"still_tokens": True, "places": True},
]


class Recorder(Sampler):
    """A sampler that keeps the logits (B, codes) of each token it drew."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen: list[torch.Tensor] = []

    def step(self, state, action):
        tokens = super().step(state, action)
        self.seen += state.logits.unbind(1)
        return tokens


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("spec", [SamplerSpec(), SamplerSpec(block=2), SamplerSpec(batch_invariant=False)])
def test_stepwise_logits_are_the_teacher_forced_ones(model_of, batch_of, changes, spec):
    model, (context, _, actions, mask) = model_of(**changes), batch_of()
    sampler = Recorder(model, spec=spec)
    state = sampler.start(context, mask, torch.arange(3), 4)
    tokens = torch.stack([sampler.step(state, action) for action in actions.unbind(1)], 1)
    stepwise = torch.stack(sampler.seen, 1).view(3, 4, 4, 15)
    with torch.no_grad():
        torch.testing.assert_close(stepwise, model(context, tokens, actions, mask), atol=1e-4, rtol=0)
    assert state.sequence_length == model.layout.length(4)
    assert state.frames == state.cached_frames == 4


@pytest.mark.parametrize("heads", [1, 3])
def test_two_contexts_are_read_one_after_the_other(model_of, batch_of, heads):
    model = model_of(contexts=2, segment={"reencoded": 0.5}, kv_heads=heads)
    context, _, actions, mask = batch_of()
    first = batch_of(seed=2)[0]
    sampler, seeds = Recorder(model, temperature=0), torch.arange(3)
    state = sampler.start(context, mask, seeds, 4, initial_context=first)
    tokens = torch.stack([sampler.step(state, action) for action in actions.unbind(1)], 1)
    whole = torch.cat([first[:, :6], context], 1)
    with torch.no_grad():
        logits = model(whole, tokens, actions, mask)
        same = model(context, tokens, actions, mask)
    torch.testing.assert_close(torch.stack(sampler.seen, 1).view(3, 4, 4, 15), logits, atol=1e-4, rtol=0)
    assert not torch.allclose(logits, same, atol=1e-2)
    assert state.sequence_length == 2 * 6 + 4 * model.layout.frame


def test_greedy_takes_the_likeliest_code(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of()
    tokens = generate(model, context, actions, mask, torch.arange(3), temperature=0)
    with torch.no_grad():
        assert torch.equal(model(context, tokens, actions, mask).argmax(-1), tokens)


def test_the_same_seed_gives_the_same_tokens_whatever_else_is_in_the_batch(model_of, batch_of):
    """At a width where matrix libraries choose kernels by the number of rows."""
    shape = TokenShape(16, 16, (8, 5, 5, 5), (8, 5, 5, 5), 7)
    model = model_of(shape, hidden_size=128, heads=4, kv_heads=4, intermediate_size=352, max_position_embeddings=512)
    context, _, actions, mask = batch_of(8, 3, shape)
    seeds = torch.arange(8) * 7919
    together = generate(model, context, actions, mask, seeds)
    assert len({row.numpy().tobytes() for row in together}) == 8
    for row in (0, 3, 7):
        one = slice(row, row + 1)
        assert torch.equal(generate(model, context[one], actions[one], mask[one], seeds[one]), together[one])
    many = [5, 2, 2, 7, 0, 1, 3, 4, 6, 6, 6, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    rows = torch.tensor(many)
    assert torch.equal(generate(model, context[rows], actions[rows], mask[rows], seeds[rows]), together[rows])


def test_stepwise_logits_do_not_change_by_a_bit_with_the_batch(model_of, batch_of):
    shape = TokenShape(16, 8, (8, 5, 5, 5), (8, 5, 5, 5), 7)
    model = model_of(shape, hidden_size=128, heads=4, kv_heads=2, intermediate_size=352, max_position_embeddings=512)
    context, _, actions, mask = batch_of(19, 2, shape)

    def logits(rows: slice) -> torch.Tensor:
        sampler = Recorder(model)
        state = sampler.start(context[rows], mask[rows], torch.arange(19)[rows], 2)
        for action in actions[rows].unbind(1):
            sampler.step(state, action)
        return torch.stack(sampler.seen, 1)

    every = logits(slice(None))
    for rows in (slice(4, 5), slice(2, 9), slice(0, 17)):
        assert torch.equal(logits(rows), every[rows])


def test_entropy_is_that_of_the_models_distributions(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of()
    sampler = Recorder(model, temperature=0.5, top_k=3)
    state = sampler.start(context, mask, torch.arange(3), 2)
    assert state.entropy.tolist() == [0, 0, 0]
    for action in actions[:, :2].unbind(1):
        sampler.step(state, action)
    logits = torch.stack(sampler.seen[-4:], 1)
    expected = torch.distributions.Categorical(logits=logits).entropy().mean(1)
    torch.testing.assert_close(state.entropy, expected)
    torch.testing.assert_close(state.select(torch.tensor([2, 0])).entropy, expected[[2, 0]])


def test_groups_share_a_prompt_and_differ_by_seed(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of(2)
    seeds = torch.arange(6)
    context, mask, actions = (tensor.repeat_interleave(3, 0) for tensor in (context, mask, actions))
    grouped = generate(model, context, actions, mask, seeds)
    for row in range(6):
        one = slice(row, row + 1)
        assert torch.equal(grouped[one], generate(model, context[one], actions[one], mask[one], seeds[one]))
    assert not torch.equal(grouped[0], grouped[1])


def test_a_fork_goes_on_as_its_parent_would(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of(2)
    sampler, seeds = Sampler(model), torch.tensor([11, 12])
    whole = generate(model, context, actions, mask, seeds)
    state = sampler.start(context, mask, seeds, 4)
    for action in actions[:, :2].unbind(1):
        sampler.step(state, action)
    forked = state.fork(2, torch.tensor([11, 99, 12, 98]))
    swapped = state.select(torch.tensor([1, 0]))
    rest = torch.stack([sampler.step(forked, a.repeat_interleave(2, 0)) for a in actions[:, 2:].unbind(1)], 1)
    assert torch.equal(rest[::2], whole[:, 2:])
    assert not torch.equal(rest[1::2], whole[:, 2:])
    other = torch.stack([sampler.step(swapped, a.flip(0)) for a in actions[:, 2:].unbind(1)], 1)
    assert torch.equal(other, whole[:, 2:].flip(0))
    assert torch.equal(sampler.step(state, actions[:, 2]), whole[:, 2])
    with pytest.raises(ValueError, match="as many seeds"):
        state.fork(2, seeds)


def test_a_new_context_continues_the_noise_by_absolute_frame(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of()
    sampler, seeds = Sampler(model, temperature=1e6), torch.arange(3)  # so hot that the noise alone decides
    first = generate(model, context, actions, mask, seeds, temperature=1e6)
    state = sampler.start(context, mask, seeds, 2, first_frame=2)
    assert torch.equal(sampler.step(state, actions[:, 0]), first[:, 2])
    assert not torch.equal(first[:, 0], first[:, 2])


def test_dropping_frames_moves_the_later_ones_up(model_of, batch_of):
    """With one layer, keys and values know nothing of other tokens: dropped frames leave no trace at all.

    (The displacement since the context is left out: it goes on counting, dropped frames or not.)
    """
    bins = {"kind": "slot", "displacement": False}
    model, (context, _, actions, mask) = model_of(layers=1, previous_codes=False, actions=bins), batch_of()
    sampler = Recorder(model, temperature=0)
    state = sampler.start(context, mask, torch.arange(3), 3)
    tokens = torch.stack([sampler.step(state, action) for action in actions[:, :3].unbind(1)], 1)
    with pytest.raises(ValueError, match="is full"):
        sampler.step(state, actions[:, 3])
    sampler.drop(state, 2)
    assert state.cached_frames == 1
    assert state.sequence_length == model.layout.length(1)
    sampler.seen = []
    last = sampler.step(state, actions[:, 3])
    assert state.frame == 4
    kept = torch.stack([tokens[:, 2], last], 1)
    with torch.no_grad():
        expected = model(context, kept, actions[:, 2:], mask)[:, 1]
    torch.testing.assert_close(torch.stack(sampler.seen, 1), expected, atol=1e-4, rtol=0)


def test_the_last_frame_cannot_be_dropped(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of()
    sampler = Sampler(model)
    state = sampler.start(context, mask, torch.arange(3), 2)
    sampler.step(state, actions[:, 0])
    with pytest.raises(ValueError, match="the last one must stay"):
        sampler.drop(state, 1)


def test_a_window_as_long_as_the_rollout_changes_nothing_and_a_shorter_one_does(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of(3, 6)
    free = generate(model, context, actions, mask, torch.arange(3))
    assert torch.equal(generate(model, context, actions, mask, torch.arange(3), window=6), free)
    short = generate(model, context, actions, mask, torch.arange(3), window=2)
    assert torch.equal(short[:, :2], free[:, :2])
    assert not torch.equal(short, free)


def test_a_window_holds_a_smaller_cache(model_of, batch_of):
    model, (context, _, _, mask) = model_of(kv_heads=1), batch_of()
    sampler = Sampler(model)
    short, long = (sampler.start(context, mask, torch.arange(3), frames) for frames in (2, 8))
    assert short.cache_bytes < long.cache_bytes
    assert long.cache_bytes == model.spec.cache_bytes(model.layout.length(8), rows=3)


def test_the_sampler_follows_the_weights(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of()
    sampler, seeds = Sampler(model, temperature=0), torch.arange(3)
    state = sampler.start(context, mask, seeds, 1)
    before = sampler.step(state, actions[:, 0])
    with torch.no_grad():
        model.head.weight.neg_()
    after = sampler.step(sampler.start(context, mask, seeds, 1), actions[:, 0])
    assert not torch.equal(before, after)


def test_shapes_and_limits_that_do_not_fit_are_refused(model_of, batch_of):
    model, (context, _, _, mask) = model_of(), batch_of()
    sampler = Sampler(model)
    with pytest.raises(ValueError, match="3 prompts need as many seeds, got 6"):
        sampler.start(context, mask, torch.arange(6), 2)
    with pytest.raises(ValueError, match="prompts have 6 codes, the model takes 6 of the context and 4 of the same"):
        sampler.start(context[:, :6], mask, torch.arange(3), 2)
    with pytest.raises(ValueError, match="3 prompts need as many action masks, got 2"):
        sampler.start(context, mask[:2], torch.arange(3), 2)
    with pytest.raises(ValueError, match=r"world_model.max_position_embeddings \(128\)"):
        sampler.start(context, mask, torch.arange(3), 1000)
    with pytest.raises(ValueError, match="temperature"):
        Sampler(model, temperature=-1)


def test_noise_is_standard_gumbel_and_named_by_seed_frame_place_and_code():
    seeds = torch.tensor([0, 1, 2**40])
    keys = noise_keys(seeds, 3, 8)
    noise = gumbel(keys, 4000).double()
    assert noise.shape == (3, 8, 4000)
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert noise.var().item() == pytest.approx(1.6449, abs=0.03)
    assert torch.equal(gumbel(noise_keys(seeds[1:2], 3, 2), 10).double(), noise[1:2, :2, :10])
    later = gumbel(noise_keys(seeds, 4, 1), 4000)[0, 0].double()
    flat = torch.stack([noise[0, 0], noise[1, 0], noise[2, 0], noise[0, 1], later, noise[0, 0].roll(1)])
    assert (torch.corrcoef(flat) - torch.eye(6)).abs().max() < 0.08


def test_noise_of_neighbouring_names_is_independent():
    """Bits of seeds, frames and codes in a row are even and uncorrelated: the mixers leave no pattern."""
    keys = torch.stack([noise_keys(torch.arange(64), frame, 1)[:, 0] for frame in range(64)])
    uniform = torch.exp(-torch.exp(-gumbel(keys, 16).double()))  # (frames, seeds, codes)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.005)
    counts = torch.histc(uniform, 64, 0, 1)
    assert float(((counts - 1024) ** 2 / 1024).sum()) < 110  # chi-squared with 63 degrees: 99.98 % lie below
    centred = uniform - 0.5
    for axis in range(3):
        neighbours = (centred * centred.roll(1, axis)).mean() * 12
        assert abs(neighbours.item()) < 0.02


def test_samples_follow_the_softmax():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    drawn = (logits + gumbel(noise_keys(torch.arange(20_000), 0, 1), 4)[:, 0]).argmax(-1)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    torch.testing.assert_close(shares, logits.exp(), atol=0.015, rtol=0)


def test_restrictions_keep_the_likeliest_codes():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.3, 0.5]]))
    kept = restrict(logits, 2, 1.0) > -1e9
    assert kept.tolist() == [[True, True, False, False], [False, False, True, True]]
    kept = restrict(logits, 0, 0.7) > -1e9
    assert kept.tolist() == [[True, True, False, False], [False, False, True, True]]
    assert (restrict(logits, 0, 1e-6) > -1e9).sum(-1).tolist() == [1, 1]
    assert torch.equal(restrict(logits, 0, 1.0), logits)


def test_the_models_own_samples_are_likelier_than_random_ones(model_of, batch_of):
    model, (context, dynamics, actions, mask) = model_of(), batch_of(16, 4)
    tokens = generate(model, context, actions, mask, torch.arange(16))
    with torch.no_grad():
        own = log_probabilities(model(context, tokens, actions, mask), tokens).mean()
        other = log_probabilities(model(context, dynamics, actions, mask), dynamics).mean()
    assert own > other + 0.1


def test_proprioception_of_the_context_frame_reaches_every_frame(model_of, batch_of):
    shape = TokenShape(6, 4, (4, 3), (3, 5), 3, proprioception_width=2)
    model, (context, _, actions, mask) = model_of(shape, proprioception={}), batch_of()
    measured = torch.tensor([[0.5, -1.0], [0.2, torch.nan], [torch.nan, torch.nan]])
    sampler = Recorder(model, temperature=0)
    state = sampler.start(context, mask, torch.arange(3), 4, proprioception=measured)
    tokens = torch.stack([sampler.step(state, action) for action in actions.unbind(1)], 1)
    with torch.no_grad():
        logits = model(context, tokens, actions, mask, measured)
        unknown = model(context, tokens, actions, mask)
    torch.testing.assert_close(torch.stack(sampler.seen, 1).view(3, 4, 4, 15), logits, atol=1e-4, rtol=0)
    differs = (logits - unknown).abs().amax((2, 3)) > 1e-3
    assert differs[:2].all()
    assert not differs[2].any()


def test_a_model_without_proprioception_ignores_it(model_of, batch_of):
    model, (context, _, actions, mask) = model_of(), batch_of()
    sampler = Sampler(model, temperature=0)
    drawn = []
    for measured in (None, torch.ones(3, 2)):
        state = sampler.start(context, mask, torch.arange(3), 4, proprioception=measured)
        drawn.append(torch.stack([sampler.step(state, action) for action in actions.unbind(1)]))
    assert torch.equal(*drawn)
