"""Sampling without batch invariance: shared prompts, bfloat16, compiled graphs of fixed shapes."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch._dynamo.utils import counters

from roboalign.hardware.spec import SamplerSpec
from roboalign.world_model.kv_cache import PromptGroups
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.prompts import find_distinct_prompts
from roboalign.world_model.sampler import Sampler

FAST = SamplerSpec(batch_invariant=False)
HALF = SamplerSpec(batch_invariant=False, precision="bf16-true")
COMPILED = SamplerSpec(batch_invariant=False, compile=True)
MANY = [2, 0, 1, 2, 2, 0, 1, 1, 2, 0, 0, 1, 2, 0, 1, 2, 0]
"""17 rollouts of 3 prompts."""


@pytest.fixture
def uncompiled(monkeypatch):
    """torch.compile captures graphs and runs them by torch, without compiling kernels."""
    torch._dynamo.reset()
    counters.clear()
    original = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, fullgraph, mode: original(function, fullgraph=fullgraph, backend="eager")
    )


def roll_out(sampler, context, actions, mask, window):
    """Tokens and logits of rollouts in a window, of which the last is taken up by reversed copies."""
    rows = len(context)
    state, frames = sampler.start(context, mask, torch.arange(rows), window), []
    for frame, action in enumerate(actions.unbind(1)):
        if frame == actions.shape[1] - 1:
            state, action = state.select(torch.arange(rows).flip(0)), action.flip(0)
        if state.cached_frames == state.capacity:
            sampler.drop(state)
        frames.append((sampler.step(state, action), state.logits))
    tokens, logits = zip(*frames, strict=True)
    return torch.stack(tokens, 1), torch.stack(logits, 1)


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 1}, {"actions": {"kind": "tokens", "bins": 16, "width": 5}}])
def test_fast_sampling_draws_what_the_invariant_one_does(model_of, batch_of, changes):
    model, (context, _, actions, mask) = model_of(**changes), batch_of(3, 6)
    exact, fast = Sampler(model, temperature=0), Sampler(model, temperature=0, spec=FAST)
    for rows in ([0], [0, 1, 2], MANY, [0] * 9 + [1, 2]):
        batch = context[rows], actions[rows], mask[rows], 3
        tokens, logits = roll_out(exact, *batch)
        fast_tokens, fast_logits = roll_out(fast, *batch)
        assert torch.equal(fast_tokens, tokens)
        torch.testing.assert_close(fast_logits, logits, atol=1e-4, rtol=0)


def test_frames_are_drawn_by_two_graphs_at_all_positions(model_of, batch_of, uncompiled):
    """Windows, dropped frames, new contexts and new weights compile nothing."""
    model, (context, _, actions, mask) = model_of(layers=1, kv_heads=1), batch_of(3, 5)
    exact, sampler = (Sampler(model, temperature=0, spec=spec) for spec in (SamplerSpec(), COMPILED))
    first = roll_out(exact, context, actions, mask, 3)[0]
    assert torch.equal(roll_out(sampler, context, actions, mask, 3)[0], first)
    state = sampler.start(context, mask, torch.arange(3), 3, first_frame=4, displacement=actions[:, 0])
    sampler.feed(state, actions[:, :1], first[:, :1])
    sampler.step(state, actions[:, 1])
    with torch.no_grad():
        model.head.weight.neg_()
    changed = roll_out(sampler, context, actions, mask, 3)[0]
    assert torch.equal(changed, roll_out(exact, context, actions, mask, 3)[0])
    assert not torch.equal(changed, first)
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


@pytest.mark.slow
def test_graphs_are_compiled_once_more_for_other_batch_sizes(model_of, batch_of, uncompiled):
    model, (context, _, actions, mask) = model_of(layers=1), batch_of(5, 4)
    exact, sampler = (
        Sampler(model, temperature=1, top_k=5, top_p=0.9, spec=spec) for spec in (SamplerSpec(), COMPILED)
    )
    for rows, graphs in ([0, 1, 2], 2), ([0, 1, 2, 3], 4), ([0, 1, 2, 3, 4], 4), ([1, 2, 3, 4, 0], 4):
        batch = context[rows], actions[rows], mask[rows], 3
        assert torch.equal(roll_out(sampler, *batch)[0], roll_out(exact, *batch)[0])
        assert counters["stats"]["unique_graphs"] == graphs
    # Prompts that are shared are another attention.
    batch = context[MANY], actions[MANY], mask[MANY], 3
    assert torch.equal(roll_out(sampler, *batch)[0], roll_out(exact, *batch)[0])
    assert counters["stats"]["unique_graphs"] == 6
    assert not counters["graph_break"]


def test_graphs_use_the_memory_of_ended_rollouts_again(model_of, batch_of, uncompiled):
    model, (context, _, _, mask) = model_of(), batch_of()
    sampler = Sampler(model, spec=COMPILED)
    first, second = (sampler.start(context, mask, torch.arange(3), 2) for _ in range(2))
    addresses = [state.cache.own.data_ptr() for state in (first, second)]
    assert addresses[0] != addresses[1]
    del first
    third = sampler.start(context, mask, torch.arange(3), 2)
    assert third.cache.own.data_ptr() == addresses[0]


def test_prompts_are_stored_once_for_all_of_their_rollouts(model_of, batch_of):
    model, (context, _, _, mask) = model_of(), batch_of()
    sampler, layout = Sampler(model, spec=FAST), model.layout
    state = sampler.start(context[MANY], mask[MANY], torch.arange(17), 2)
    bytes_of, shared = model.spec.cache_bytes, layout.prefix - 1
    assert state.cache_bytes == bytes_of(shared, rows=3) + bytes_of(layout.length(2) - shared, rows=17)
    chosen = state.select(torch.tensor([1, 1, 5, 5, 9]))
    assert chosen.cache.shared.shape[2] == 1
    alone = state.select(torch.tensor([0, 1, 2]))
    assert alone.cache.shared is None
    assert alone.cache_bytes == bytes_of(layout.length(2), rows=3)


def test_equal_prompts_are_read_once(model_of, batch_of, monkeypatch):
    model, (context, _, _, mask) = model_of(), batch_of()
    read, rows = Sampler._read, []
    monkeypatch.setattr(Sampler, "_read", lambda self, x, *rest: rows.append(len(x)) or read(self, x, *rest))
    for spec, expected in ((SamplerSpec(), [1, 1, 1]), (FAST, [3])):
        rows.clear()
        Sampler(model, spec=spec).start(context[MANY], mask[MANY], torch.arange(17), 1)
        assert rows == expected


@given(st.lists(st.integers(0, 4), min_size=1, max_size=24), st.booleans())
@settings(max_examples=50)
def test_prompts_and_their_groups(names, measured):
    prompts = torch.tensor(names)[:, None].expand(-1, 3)
    proprioception = torch.tensor([[torch.nan, 0.5]]).expand(len(names), -1) if measured else None
    first, numbers = find_distinct_prompts(prompts, proprioception)
    assert [names[row] for row in first] == list(dict.fromkeys(names))
    assert [names[first[number]] for number in numbers] == names
    groups = PromptGroups.of(numbers)
    if groups is None:
        assert len(set(names)) * 4 > len(names) or max(map(names.count, names)) * len(set(names)) > 2 * len(names)
        return
    assert groups.rows.flatten()[groups.places].tolist() == list(range(len(names)))
    assert (groups.places // groups.rows.shape[1]).tolist() == numbers.tolist()


def test_proprioception_tells_prompts_apart():
    first, numbers = find_distinct_prompts(torch.zeros(3, 2, dtype=torch.long), torch.tensor([[0.0], [0.5], [0.0]]))
    assert (first.tolist(), numbers.tolist()) == ([0, 1], [0, 1, 0])


def test_bfloat16_draws_nearly_the_same(model_of, batch_of):
    """At the default experiment's width: the same greedy codes but where two are almost equally likely."""
    shape = TokenShape(16, 16, (8, 5, 5, 5), (8, 5, 5, 5), 7)
    model = model_of(shape, hidden_size=128, heads=4, kv_heads=1, intermediate_size=352, max_position_embeddings=512)
    context, _, actions, mask = batch_of(8, 2, shape)
    sampler = Sampler(model, temperature=0, spec=HALF)
    state = sampler.start(context, mask, torch.arange(8), 2)
    assert state.cache.own.dtype == torch.bfloat16
    tokens = torch.stack([sampler.step(state, action) for action in actions.unbind(1)], 1)
    with torch.no_grad():
        exact = model(context, tokens, actions, mask)[:, 1]
    assert state.logits.dtype == torch.float32
    assert (state.logits - exact).square().mean().sqrt() < 0.04 * exact.std()
    assert (tokens[:, 1] == exact.argmax(-1)).float().mean() > 0.9


def test_compiled_kernels_cannot_be_batch_invariant():
    with pytest.raises(ValidationError, match="set batch_invariant to false"):
        SamplerSpec(compile=True)


def test_the_default_draws_what_it_always_did(model_of, batch_of):
    """Codes of an earlier revision, over dropped frames and selected rows."""
    shape = TokenShape(16, 8, (8, 5, 5, 5), (8, 5, 5, 5), 7)
    model = model_of(shape, hidden_size=128, heads=4, kv_heads=2, intermediate_size=352, max_position_embeddings=512)
    context, _, actions, mask = batch_of(17, 5, shape)
    digests = []
    for rows in (1, 3, 17):
        tokens, _ = roll_out(Sampler(model), context[:rows], actions[:rows], mask[:rows], 3)
        digests.append(hashlib.sha256(tokens.numpy().tobytes()).hexdigest()[:12])
    assert digests == ["1185a7c9ae6b", "f195dbad5b23", "a841dcdd69cd"]
