import pytest
import torch
from rollout_fakes import ToySampler, ToyTokenizer, level, picture
from torch import Tensor

from roboalign.rollout.rollout import rollout
from roboalign.rollout.segment import Prompt
from roboalign.rollout.simulator import Endless, Simulator
from roboalign.rollout.spec import AnchoredSwrSpec, ArSpec, KvWindowSpec, SwrSpec, TwoContextsSwrSpec

FRAMES = picture(torch.tensor([100, 200]))
MASK = torch.ones(2, 1, dtype=torch.bool)
SEEDS = torch.tensor([5, 6])
ACTIONS = torch.tensor([[0.01, 0.02, -0.01, 0.0, 0.03, 0.01, 0.0], [0.0, 0.0, 0.01, 0.01, 0.02, 0.0, 0.05]])[..., None]


def played(decoding: Endless) -> Tensor:
    simulator = Simulator(ToyTokenizer(loss=1), ToySampler(drift=1, noisy=True), decoding)
    world = simulator.reset(FRAMES, MASK, SEEDS)
    return torch.stack([simulator.step(world, action) for action in ACTIONS.unbind(1)], 1)


@pytest.mark.parametrize(
    "decoding",
    [
        ArSpec(),
        SwrSpec(window=3),
        AnchoredSwrSpec(window=3, threshold=0.01),
        TwoContextsSwrSpec(window=3),
        KvWindowSpec(frames=2),
    ],
)
def test_stepping_shows_what_a_rollout_of_the_same_actions_shows(decoding: Endless) -> None:
    whole = rollout(
        decoding, ToyTokenizer(loss=1), ToySampler(drift=1, noisy=True), Prompt(FRAMES, ACTIONS, MASK, SEEDS)
    )
    assert torch.equal(played(decoding), whole.frames[:, 1:])


def test_a_refresh_with_two_contexts_keeps_the_first_one() -> None:
    simulator = Simulator(ToyTokenizer(loss=1), sampler := ToySampler(), TwoContextsSwrSpec(window=2))
    world = simulator.reset(FRAMES, MASK, SEEDS)
    for action in ACTIONS[:, :5].unbind(1):
        simulator.step(world, action)
    first, *later = sampler.beginnings
    assert first is None
    assert [each.tolist() for each in later if each is not None] == [[[101], [201]]] * 2


def test_a_branch_goes_its_own_way_and_leaves_the_world_as_it_was() -> None:
    simulator = Simulator(ToyTokenizer(), ToySampler(), SwrSpec(window=3))
    world = simulator.reset(FRAMES, MASK, SEEDS)
    simulator.step(world, ACTIONS[:, 0])
    twins = simulator.branch(world, torch.tensor([1, 1, 0]), torch.tensor([1, 2, 3]))
    for _ in range(4):
        simulator.step(twins, torch.tensor([[0.1], [-0.02], [0.0]]))
    assert level(twins.picture).tolist() == [600, 120, 110]
    assert level(world.picture).tolist() == [110, 200]
    assert (len(twins), twins.frame, world.frame) == (3, 5, 1)
    assert level(simulator.step(world, ACTIONS[:, 1])).tolist() == [130, 200]


def test_branches_with_seeds_of_their_own_differ_under_the_same_actions() -> None:
    simulator = Simulator(ToyTokenizer(), ToySampler(noisy=True), SwrSpec(window=3))
    world = simulator.reset(FRAMES, MASK, SEEDS)
    twins = simulator.branch(world, torch.tensor([0, 0]), torch.tensor([1, 2]))
    simulator.step(twins, torch.zeros(2, 1))
    assert level(twins.picture)[0] != level(twins.picture)[1]
    same = simulator.branch(world, torch.tensor([0, 0]))
    simulator.step(same, torch.zeros(2, 1))
    assert level(same.picture)[0] == level(same.picture)[1]


def test_too_few_seeds_are_refused() -> None:
    simulator = Simulator(ToyTokenizer(), ToySampler(), ArSpec())
    world = simulator.reset(FRAMES, MASK, SEEDS)
    with pytest.raises(ValueError, match="2 branches need as many seeds"):
        simulator.branch(world, torch.tensor([0, 1]), torch.tensor([1]))


def test_plain_autoregression_says_when_it_is_full() -> None:
    simulator = Simulator(ToyTokenizer(), ToySampler(), ArSpec(), longest=2)
    world = simulator.reset(FRAMES, MASK, SEEDS)
    for _ in range(2):
        simulator.step(world, ACTIONS[:, 0])
    with pytest.raises(ValueError, match="room for 2 frames"):
        simulator.step(world, ACTIONS[:, 0])
