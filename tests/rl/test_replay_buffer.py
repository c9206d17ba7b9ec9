import torch
from rl_fakes import observe_toy_clips, toy_student

from roboalign.reward.observation import SetBatch
from roboalign.rl.replay_buffer import ReplayBuffer


def clips(*levels: float) -> SetBatch:
    """Clips whose only difference is their brightness, and with it the judge's scores."""
    torch.manual_seed(0)
    videos = torch.tensor(levels).view(-1, 1, 1, 1, 1).expand(-1, 3, 3, 32, 32) / 10
    return observe_toy_clips(toy_student(), videos)


def ring(capacity: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, {name: value[0] for name, value in clips(0).items()})


def kept(buffer: ReplayBuffer) -> list[float]:
    """The brightness of the clips of a buffer, as the judge scored it."""
    return (10 * buffer.clips(torch.arange(len(buffer)))["target"][:, 0, 1]).round().int().tolist()


def test_the_newest_rollouts_replace_the_oldest() -> None:
    buffer = ring(3)
    buffer.add(clips(1, 2))
    assert len(buffer) == 2
    assert kept(buffer) == [1, 2]
    buffer.add(clips(3, 4))
    assert len(buffer) == 3
    assert kept(buffer) == [4, 2, 3]


def test_more_than_the_capacity_keeps_the_latest() -> None:
    buffer = ring(2)
    buffer.add(clips(1, 2, 3))
    assert sorted(kept(buffer)) == [2, 3]


def test_clips_come_back_as_they_were_given() -> None:
    buffer, given = ring(4), clips(3, 7)
    buffer.add(given)
    for name, value in buffer.clips(torch.tensor([1, 0])).items():
        assert torch.equal(value, given[name][[1, 0]]), name


def test_a_checkpoint_holds_the_whole_buffer() -> None:
    buffer, other = ring(3), ring(3)
    buffer.add(clips(1, 2))
    other.load_state_dict(buffer.state_dict())
    for half in (buffer, other):
        half.add(clips(3, 4))
    assert kept(buffer) == kept(other) == [4, 2, 3]


def test_it_stays_on_the_cpu_wherever_the_module_is_moved() -> None:
    module = torch.nn.ModuleList([ring(2), torch.nn.Linear(1, 1)]).to("meta")
    assert {buffer.device.type for buffer in module[0].buffers()} == {"cpu"}
    assert next(module[1].parameters()).device.type == "meta"
