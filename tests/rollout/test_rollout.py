from pathlib import Path

import pytest
import torch
from rollout_fakes import ToySampler, ToyTokenizer, level, picture
from torch import Tensor

from roboalign.rollout.baselines import copy_context, copy_last, reconstruction
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.rollout import StoredRollout, join_rollouts, rollout
from roboalign.rollout.spec import (
    AnchoredSwrSpec,
    ArSpec,
    CarryTokensSpec,
    EntropySwrSpec,
    FixedDecodingSpec,
    KvWindowSpec,
    SwrSpec,
    TrueRefreshSpec,
    TwoContextsSwrSpec,
)
from roboalign.rollout.swr_anchored import anchor
from roboalign.video import to_uint8

HORIZON = 10
EVERY: list[FixedDecodingSpec] = [
    ArSpec(),
    SwrSpec(window=4),
    AnchoredSwrSpec(window=4, threshold=1e-4),
    TwoContextsSwrSpec(window=4),
    EntropySwrSpec(shortest=2, longest=5, rise=10),
    KvWindowSpec(frames=4),
    CarryTokensSpec(window=4),
    TrueRefreshSpec(window=4),
]


def prompt(rows: int = 2) -> Prompt:
    actions = torch.arange(rows * HORIZON).view(rows, HORIZON, 1) % 5 / 1000
    return Prompt(
        picture(torch.arange(rows) * 50 + 100), actions, torch.ones(rows, 1, dtype=torch.bool), torch.arange(rows)
    )


def outcome(start: Prompt) -> Tensor:
    """The true levels (B, F)."""
    return level(start.frames)[:, None] + (start.actions[..., 0] * 1000).round().long().cumsum(1)


@pytest.mark.parametrize("decoding", EVERY, ids=lambda decoding: decoding.kind)
def test_a_perfect_model_and_codec_give_the_truth_by_every_decoding(decoding: FixedDecodingSpec) -> None:
    start = prompt()
    true = outcome(start)
    made = rollout(decoding, ToyTokenizer(), ToySampler(), start, picture(true))
    assert made.frames.shape == (2, HORIZON + 1, 3, 4, 4)
    assert torch.equal(level(made.frames)[:, 1:], true)
    assert torch.equal(made.frames[:, 0], start.frames)
    assert len(made.seconds_per_frame) == HORIZON


@pytest.mark.parametrize("decoding", EVERY, ids=lambda decoding: decoding.kind)
def test_the_longest_sequence_is_what_the_spec_foretells(decoding: FixedDecodingSpec) -> None:
    start = prompt()
    made = rollout(decoding, ToyTokenizer(), ToySampler(), start, picture(outcome(start)))
    assert made.peak_sequence == decoding.peak_sequence(HORIZON, context_tokens=1, frame_tokens=2)


@pytest.mark.parametrize("decoding", EVERY, ids=lambda decoding: decoding.kind)
def test_the_random_stream_goes_on_by_absolute_frame(decoding: FixedDecodingSpec) -> None:
    start = prompt()
    true = outcome(start)
    made = rollout(decoding, ToyTokenizer(), ToySampler(noisy=True), start, picture(true))
    noise = torch.stack([(start.seeds * 31 + frame * 17) % 7 for frame in range(HORIZON)], 1)
    if isinstance(decoding, TrueRefreshSpec):  # the truth resets what noise has added up to
        expected = true + torch.cat([part.cumsum(1) for part in noise.split(decoding.window, 1)], 1)
    else:
        expected = true + noise.cumsum(1)
    assert torch.equal(level(made.frames)[:, 1:], expected)


def test_swr_re_encodes_the_last_predicted_frame_at_every_boundary() -> None:
    start, codec = prompt(), ToyTokenizer(loss=3)
    made = rollout(SwrSpec(window=4), codec, ToySampler(), start)
    assert codec.encoded == 3
    refreshes = torch.tensor([1] * 4 + [2] * 4 + [3] * 2)
    assert torch.equal(level(made.frames)[:, 1:], outcome(start) + 3 * refreshes)


def test_a_refresh_undoes_what_an_old_context_costs() -> None:
    start = prompt()
    plain = rollout(ArSpec(), ToyTokenizer(), ToySampler(drift=1), start)
    windowed = rollout(SwrSpec(window=2), ToyTokenizer(), ToySampler(drift=1), start)
    error = [int((level(made.frames)[:, 1:] - outcome(start))[0, -1]) for made in (plain, windowed)]
    assert error == [sum(range(1, HORIZON + 1)), (1 + 2) * HORIZON // 2]


def test_a_window_of_the_whole_horizon_is_plain_autoregression() -> None:
    start = prompt()
    plain = rollout(ArSpec(), ToyTokenizer(loss=2), ToySampler(drift=1, noisy=True), start)
    wide = rollout(SwrSpec(window=HORIZON), ToyTokenizer(loss=2), ToySampler(drift=1, noisy=True), start)
    assert torch.equal(plain.frames, wide.frames)
    assert torch.equal(plain.tokens, wide.tokens)


def test_an_anchored_refresh_takes_what_has_not_moved_from_the_first_frame() -> None:
    first = torch.zeros(1, 3, 1, 4)
    last = torch.tensor([0.0, 0.1, 0.15, 0.3]).expand(1, 3, 1, 4).clone()
    last[:, 1:] = 0.05  # one colour tells
    made = anchor(last, first, 0.1)
    torch.testing.assert_close(made[0, 0, 0], torch.tensor([0.0, 0.0, 0.075, 0.3]))
    torch.testing.assert_close(made[0, 1, 0], torch.tensor([0.0, 0.0, 0.025, 0.05]))


def test_an_anchored_rollout_forgets_small_errors_of_the_codec() -> None:
    start, still = prompt(), torch.zeros(2, HORIZON, 1)
    still = Prompt(start.frames, still, start.action_mask, start.seeds)
    plain = rollout(SwrSpec(window=2), ToyTokenizer(loss=3), ToySampler(), still)
    made = rollout(AnchoredSwrSpec(window=2, threshold=0.1), ToyTokenizer(loss=3), ToySampler(), still)
    assert (level(plain.frames) - level(start.frames)[:, None])[0, 1:].tolist() == [3, 3, 6, 6, 9, 9, 12, 12, 15, 15]
    assert (level(made.frames) - level(start.frames)[:, None])[0, 1:].tolist() == [3] * HORIZON


def test_two_contexts_are_the_first_frames_and_the_fresh_one() -> None:
    start, sampler = prompt(), ToySampler()
    rollout(TwoContextsSwrSpec(window=4), ToyTokenizer(loss=3), sampler, start)
    assert len(sampler.initial_contexts) == 3
    for initial_context in sampler.initial_contexts:
        assert initial_context is not None
        assert torch.equal(initial_context, level(start.frames)[:, None] + 3)
    rollout(SwrSpec(window=4), ToyTokenizer(loss=3), plain := ToySampler(), start)
    assert plain.initial_contexts == [None] * 3


def test_rows_are_refreshed_where_their_own_entropy_rises() -> None:
    start = prompt(3)
    spec = EntropySwrSpec(shortest=2, longest=9, rise=2)
    codec = ToyTokenizer(loss=3)
    made = rollout(spec, codec, ToySampler(noisy=True), start)
    plain = rollout(ArSpec(), ToyTokenizer(), ToySampler(noisy=True), start)
    refreshes = (level(made.frames) - level(plain.frames))[:, 1:] // 3
    assert refreshes.tolist() == [
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 4],  # ages 1, 2, 3 are at most twice the mean of 1 and 2
        [1, 1, 2, 2, 3, 3, 4, 4, 5, 5],  # of 1, 4, 9 only the first two are
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 4],
    ]
    assert codec.encoded == 1 + 4 + 3 - 1  # both kinds of rows are refreshed together after frame 6
    for row in range(3):
        alone = rollout(spec, ToyTokenizer(loss=3), ToySampler(noisy=True), start.select(slice(row, row + 1)))
        assert torch.equal(alone.frames[0], made.frames[row])
        assert torch.equal(alone.tokens[0], made.tokens[row])
    assert len(made.seconds_per_frame) == HORIZON


def test_carry_tokens_never_encodes_again() -> None:
    codec = ToyTokenizer(loss=5)
    made = rollout(CarryTokensSpec(window=4), codec, ToySampler(), prompt())
    assert codec.encoded == 1
    assert torch.equal(level(made.frames)[:, 1:], outcome(prompt()) + 5)


def test_only_true_refresh_needs_the_truth() -> None:
    with pytest.raises(ValueError, match="true frames"):
        rollout(TrueRefreshSpec(window=4), ToyTokenizer(), ToySampler(), prompt())


@pytest.mark.parametrize("on_disk", [False, True])
def test_batches_joined_equal_one_batch(tmp_path: Path, on_disk: bool) -> None:
    start = prompt(4)
    whole = rollout(SwrSpec(window=3), ToyTokenizer(), ToySampler(noisy=True), start)
    parts = [
        StoredRollout.of(rollout(SwrSpec(window=3), ToyTokenizer(), ToySampler(noisy=True), start.select(rows)))
        for rows in (slice(0, 3), slice(3, 4))
    ]
    both = join_rollouts(iter(parts), 4, tmp_path if on_disk else None)
    assert torch.equal(to_uint8(whole.frames), both.frames)
    assert torch.equal(whole.tokens, both.tokens)
    assert [*tmp_path.iterdir()] == []  # the file of the frames has no name
    assert (whole.peak_sequence, whole.cache_bytes) == (both.peak_sequence, both.cache_bytes)


def test_baselines() -> None:
    true = picture(torch.tensor([[10, 20, 30]]))
    assert level(copy_context(true)).tolist() == [[10, 10, 10]]
    assert level(copy_last(true)).tolist() == [[10, 10, 20]]
    assert level(reconstruction(ToyTokenizer(), true)).tolist() == [[10, 20, 30]]


def test_the_papers_sequence_is_shorter_by_54_8_percent() -> None:
    swr, ar = (decoding.peak_sequence(30, 1280, 93) for decoding in (SwrSpec(window=6), ArSpec()))
    assert (swr, ar) == (1838, 4070)
    assert round(100 * (1 - swr / ar), 1) == 54.8
