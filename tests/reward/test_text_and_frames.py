import torch

from roboalign.reward.frames import CHANNELS, PROFILE, frame_positions, frame_views, motion_profile
from roboalign.reward.text import PADDING, UNKNOWN, TextEncoder, Vocabulary


def test_words_are_numbered_and_new_ones_are_unknown():
    vocabulary = Vocabulary.of(["Push the block.", "push it"], length=4)
    assert vocabulary.known == ("block", "it", "push", "the")
    rows = vocabulary.encode(["push the red block", "", "one two three four five push"])
    assert rows.shape == (3, 4)
    assert rows[0].tolist() == [4, 5, UNKNOWN, 2]
    assert rows[1].tolist() == [UNKNOWN, PADDING, PADDING, PADDING]
    assert (rows[2] == UNKNOWN).all()


def test_padding_does_not_change_the_meaning():
    torch.manual_seed(0)
    encoder = TextEncoder(10, 6, 8, 1, 2, hide=0.5).eval()
    short = torch.tensor([[3, 4, PADDING, PADDING, PADDING, PADDING]])
    both = torch.cat([short, torch.tensor([[5, 6, 7, 8, 9, 2]])])
    (alone, empty), (together, _) = encoder(short), encoder(both)
    assert torch.allclose(alone[0, ~empty[0]], together[0, ~empty[0]], atol=1e-6)
    assert not torch.allclose(together[0, ~empty[0]], together[1, ~empty[0]])


def test_positions_hold_both_ends_and_shift_between():
    lengths = torch.tensor([9, 5, 1])
    assert frame_positions(lengths, 5).tolist() == [[0, 2, 4, 6, 8], [0, 1, 2, 3, 4], [0, 0, 0, 0, 0]]
    shifted = frame_positions(torch.tensor([100, 100]), 5, torch.Generator().manual_seed(1))
    assert torch.equal(shifted[0], shifted[1])
    assert shifted[0, 0] == 0
    assert shifted[0, -1] == 99
    assert not torch.equal(shifted[0], frame_positions(torch.tensor([100]), 5)[0])
    assert (shifted.diff(dim=1) >= 0).all()


def test_frames_past_the_end_are_not_seen():
    videos = torch.randint(0, 255, (1, 6, 3, 8, 8), dtype=torch.uint8)
    longer = torch.cat([videos, torch.randint(0, 255, (1, 4, 3, 8, 8), dtype=torch.uint8)], dim=1)
    lengths = torch.tensor([6])
    places = frame_positions(lengths, 4)
    assert frame_views(videos, lengths, places).shape == (1, 4, CHANNELS, 8, 8)
    assert torch.equal(frame_views(videos, lengths, places), frame_views(longer, lengths, places))
    assert motion_profile(videos, lengths).shape == (1, PROFILE)
    assert torch.allclose(motion_profile(videos, lengths), motion_profile(longer, lengths))


def test_the_profile_tells_freezing_and_flicker_from_motion():
    ramp = torch.linspace(0, 1, 8).view(1, 8, 1, 1, 1).expand(1, 8, 3, 8, 8)
    lengths = torch.tensor([8])
    frozen = ramp[:, [0, 1, 2, 3, 3, 3, 3, 7]]
    flicker = ramp[:, [0, 7, 1, 6, 2, 5, 3, 4]]
    moving, still, flickering = (motion_profile(x, lengths)[0] for x in (ramp, frozen, flicker))
    assert still[3] == 0 < moving[3]  # the least change of neighbouring frames
    assert flickering[8] > 4 * moving[8].abs() + 1  # the mean second difference
    assert torch.isfinite(motion_profile(ramp[:, :1], torch.tensor([1]))).all()
