from collections.abc import Sequence

import torch

from roboalign.rl.distillation import BenchClips, Ring, spread


def clips(*levels: int) -> torch.Tensor:
    return torch.tensor(levels).float().view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4) / 255


def test_the_newest_rollouts_replace_the_oldest() -> None:
    ring = Ring(3, (2, 3, 4, 4), 1)
    ring.add(clips(10, 20), torch.tensor([[1.0], [2.0]]), torch.tensor([1, 2]))
    assert len(ring) == 2
    ring.add(clips(30, 40), torch.tensor([[3.0], [4.0]]), torch.tensor([3, 4]))
    assert len(ring) == 3
    kept = ring.batch(torch.arange(3), lambda number: f"prompt {number}")
    assert kept.scores.flatten().tolist() == [4, 2, 3]
    assert kept.instructions == ("prompt 4", "prompt 2", "prompt 3")
    assert (kept.videos[:, 0, 0, 0, 0] * 255).round().tolist() == [40, 20, 30]


def test_more_than_the_capacity_keeps_the_latest() -> None:
    ring = Ring(2, (2, 3, 4, 4), 1)
    ring.add(clips(1, 2, 3), torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1, 2, 3]))
    assert sorted(ring.scores.flatten().tolist()) == [2, 3]


def test_a_checkpoint_holds_the_whole_ring() -> None:
    ring, other = Ring(3, (2, 3, 4, 4), 1), Ring(3, (2, 3, 4, 4), 1)
    ring.add(clips(10, 20), torch.tensor([[1.0], [2.0]]), torch.tensor([1, 2]))
    other.load_state_dict(ring.state_dict())
    for half in (ring, other):
        half.add(clips(30, 40), torch.tensor([[3.0], [4.0]]), torch.tensor([3, 4]))
    assert all(torch.equal(a, b) for a, b in zip(ring.state_dict().values(), other.state_dict().values(), strict=True))


def test_chosen_rollouts_are_spread_over_the_groups() -> None:
    assert spread(4, 8).tolist() == [0, 2, 4, 6]
    assert spread(3, 3).tolist() == [0, 1, 2]


def test_bench_clips_of_different_lengths_are_padded_and_keep_their_scores() -> None:
    def teacher(videos: torch.Tensor, instructions: Sequence[str]) -> torch.Tensor:
        return videos.sum((1, 2, 3, 4))[:, None] + torch.tensor([[float(len(text))] for text in instructions])

    videos = [torch.full((length, 3, 1, 1), 255, dtype=torch.uint8) for length in (2, 4, 2)]
    clips = BenchClips(videos, ["a", "bb", "ccc"], teacher).batch([1, 2, 0])
    assert clips.videos.shape == (3, 4, 3, 1, 1)
    assert clips.lengths.tolist() == [4, 2, 2]
    assert clips.videos.sum((2, 3, 4)).tolist() == [[3] * 4, [3, 3, 0, 0], [3, 3, 0, 0]]
    assert clips.scores.flatten().tolist() == [3 * 4 + 2, 3 * 2 + 3, 3 * 2 + 1]
    assert clips.instructions == ("bb", "ccc", "a")
