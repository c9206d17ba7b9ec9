import pytest
import torch

from roboalign.spec.training import TrainingSpec
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.spec import WorldModelSpec

ROWS, FRAMES = 5, 6


def sampler() -> Sampler:
    training = TrainingSpec(steps=1, batch_size=1, learning_rate=0.1)
    spec = WorldModelSpec(
        layers=2,
        hidden_size=32,
        heads=4,
        kv_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        training=training,
    )
    torch.manual_seed(0)
    model = WorldModel(spec, TokenShape(9, 4, (5, 5, 5), (4, 4, 4), 3)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Sampler(model, temperature=1.0)


@pytest.mark.parametrize("drawn_before", [0, 1])
@pytest.mark.parametrize("fed", [1, 2, 4])
def test_a_rollout_goes_on_from_fed_frames_as_from_its_own(fed: int, drawn_before: int) -> None:
    world, generator = sampler(), torch.Generator().manual_seed(1)
    context = torch.randint(64, (ROWS, 9 + 4), generator=generator)
    actions = torch.rand(ROWS, FRAMES, 3, generator=generator) * 2 - 1
    mask = torch.tensor([True, True, False]).expand(ROWS, -1)
    state = world.start(context, mask, torch.arange(ROWS), FRAMES)
    whole = torch.stack([world.step(state, action) for action in actions.unbind(1)], 1)
    assert len(whole.flatten(1).unique(dim=0)) == ROWS
    again = world.start(context, mask, torch.arange(ROWS), FRAMES)
    for frame in range(drawn_before):
        world.step(again, actions[:, frame])
    until = drawn_before + fed
    world.feed(again, actions[:, drawn_before:until], whole[:, drawn_before:until])
    assert (again.frames, again.sequence_length) == (until, world.model.layout.length(until))
    rest = torch.stack([world.step(again, action) for action in actions[:, until:].unbind(1)], 1)
    assert torch.equal(rest, whole[:, until:])


def test_fed_frames_must_fit_into_the_cache() -> None:
    world = sampler()
    state = world.start(torch.zeros(1, 9 + 4, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1), 2)
    with pytest.raises(ValueError, match="no room"):
        world.feed(state, torch.zeros(1, 3, 3), torch.zeros(1, 3, 4, dtype=torch.long))
