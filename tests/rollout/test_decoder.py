import pytest
import torch
from rollout_fakes import ToySampler, ToyState, ToyTokenizer, level, picture
from torch import Tensor

from roboalign.rollout.build import build_decoder
from roboalign.rollout.decoder import Decoder
from roboalign.rollout.prompt import Prompt, Start
from roboalign.rollout.rollout import rollout
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

FRAMES = picture(torch.tensor([100, 200]))
MASK = torch.ones(2, 1, dtype=torch.bool)
SEEDS = torch.tensor([5, 6])
ACTIONS = torch.tensor([[0.01, 0.02, -0.01, 0.0, 0.03, 0.01, 0.0], [0.0, 0.0, 0.01, 0.01, 0.02, 0.0, 0.05]])[..., None]
TRUTH = picture(torch.arange(14).view(2, 7) * 10)
DECODINGS: list[FixedDecodingSpec] = [
    ArSpec(),
    SwrSpec(window=3),
    AnchoredSwrSpec(window=3, threshold=0.01),
    TwoContextsSwrSpec(window=3),
    EntropySwrSpec(shortest=1, longest=4, rise=2.0),
    KvWindowSpec(frames=2),
    CarryTokensSpec(window=3),
    TrueRefreshSpec(window=3),
]


def begin(decoding: FixedDecodingSpec, sampler: ToySampler, loss: int = 0) -> Decoder[object, ToyState]:
    """Two rows in progress; with a horizon only if the decoding needs one."""
    horizon = ACTIONS.shape[1] if decoding.needs_horizon else None
    truth = TRUTH if decoding.sees_true_frames else None
    return build_decoder(decoding, ToyTokenizer(loss=loss), sampler, Start(FRAMES, MASK, SEEDS, horizon), truth)


def show_steps(decoder: Decoder[object, ToyState], actions: Tensor) -> Tensor:
    """The frames (B, F, 3, H, W) under actions (B, F, A), looked at after each step."""
    frames = []
    for action in actions.unbind(1):
        decoder.step(action)
        frames.append(decoder.take_frames()[:, 0])
        assert torch.equal(decoder.current_frame, frames[-1])
    return torch.stack(frames, 1)


@pytest.mark.parametrize("decoding", DECODINGS, ids=lambda decoding: decoding.kind)
def test_stepping_shows_what_a_rollout_of_the_same_actions_shows(decoding: FixedDecodingSpec) -> None:
    prompt, sampler = Prompt(FRAMES, ACTIONS, MASK, SEEDS), ToySampler(drift=1, noisy=True)
    whole = rollout(decoding, ToyTokenizer(loss=1), ToySampler(drift=1, noisy=True), prompt, TRUTH)
    assert torch.equal(show_steps(begin(decoding, sampler, loss=1), ACTIONS), whole.frames[:, 1:])


@pytest.mark.parametrize("decoding", DECODINGS, ids=lambda decoding: decoding.kind)
@pytest.mark.parametrize("steps", [2, 4])
def test_selected_rows_go_on_as_if_they_had_been_alone(decoding: FixedDecodingSpec, steps: int) -> None:
    whole = show_steps(begin(decoding, ToySampler(drift=1, noisy=True), loss=1), ACTIONS)
    decoder = begin(decoding, ToySampler(drift=1, noisy=True), loss=1)
    for action in ACTIONS[:, :steps].unbind(1):
        decoder.step(action)
    rows = torch.tensor([1, 0, 1])
    selected = decoder.select(rows)
    assert torch.equal(show_steps(selected, ACTIONS[rows, steps:]), whole[rows, steps:])
    assert torch.equal(decoder.take_frames(), whole[:, :steps])
    assert torch.equal(show_steps(decoder, ACTIONS[:, steps:]), whole[:, steps:])


def test_two_contexts_keep_the_first_one() -> None:
    decoder = begin(TwoContextsSwrSpec(window=2), sampler := ToySampler(), loss=1)
    show_steps(decoder, ACTIONS[:, :5])
    assert [each.tolist() for each in sampler.initial_contexts if each is not None] == [[[101], [201]]] * 3


def test_a_branch_leaves_the_original_as_it_was() -> None:
    decoder = begin(SwrSpec(window=3), ToySampler())
    decoder.step(ACTIONS[:, 0])
    branches = decoder.select(torch.tensor([1, 1, 0]), torch.tensor([1, 2, 3]))
    for _ in range(4):
        branches.step(torch.tensor([[0.1], [-0.02], [0.0]]))
    assert level(branches.current_frame).tolist() == [600, 120, 110]
    assert level(decoder.current_frame).tolist() == [110, 200]
    assert (len(branches), branches.frame, decoder.frame) == (3, 5, 1)
    decoder.step(ACTIONS[:, 1])
    assert level(decoder.current_frame).tolist() == [130, 200]


def test_branches_with_seeds_of_their_own_differ_under_the_same_actions() -> None:
    decoder = begin(SwrSpec(window=3), ToySampler(noisy=True))
    different = decoder.select(torch.tensor([0, 0]), torch.tensor([1, 2]))
    different.step(torch.zeros(2, 1))
    assert level(different.current_frame)[0] != level(different.current_frame)[1]
    same = decoder.select(torch.tensor([0, 0]))
    same.step(torch.zeros(2, 1))
    assert level(same.current_frame)[0] == level(same.current_frame)[1]


def test_too_few_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rollouts need as many seeds"):
        begin(ArSpec(), ToySampler()).select(torch.tensor([0, 1]), torch.tensor([1]))


def test_a_rollout_says_when_it_has_reached_its_horizon() -> None:
    decoder = begin(ArSpec(), ToySampler())
    show_steps(decoder, ACTIONS)
    with pytest.raises(ValueError, match="room for 7 frames"):
        decoder.step(ACTIONS[:, 0])
    with pytest.raises(ValueError, match="needs a horizon"):
        build_decoder(ArSpec(), ToyTokenizer(), ToySampler(), Start(FRAMES, MASK, SEEDS))


PROPRIOCEPTION = torch.tensor([[0.5], [-0.5]])


@pytest.mark.parametrize("decoding", DECODINGS, ids=lambda decoding: decoding.kind)
def test_proprioception_is_known_only_under_the_context_of_the_first_frame(decoding: FixedDecodingSpec) -> None:
    sampler, prompt = ToySampler(drift=1), Prompt(FRAMES, ACTIONS, MASK, SEEDS, PROPRIOCEPTION)
    rollout(decoding, ToyTokenizer(loss=1), sampler, prompt, TRUTH)
    first, *later = sampler.proprioceptions
    assert first is PROPRIOCEPTION
    keeps_context = isinstance(decoding, CarryTokensSpec)
    assert all((given is PROPRIOCEPTION) if keeps_context else (given is None) for given in later)
    assert (len(later) > 0) == (not isinstance(decoding, (ArSpec, KvWindowSpec)))


def test_selected_rollouts_keep_their_proprioception() -> None:
    start = Start(FRAMES, MASK, SEEDS, None, PROPRIOCEPTION)
    decoder = build_decoder(SwrSpec(window=3), ToyTokenizer(), ToySampler(), start, None)
    chosen = decoder.select(torch.tensor([1, 1, 0]))
    assert chosen.proprioception is not None
    assert chosen.proprioception.tolist() == [[-0.5], [-0.5], [0.5]]
