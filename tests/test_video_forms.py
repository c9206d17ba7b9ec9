import numpy as np
import torch

from roboalign.video import frames_to_video, quantise, video_to_frames


def test_stored_frames_survive_the_way_there_and_back() -> None:
    frames = np.arange(2 * 3 * 4 * 5 * 3, dtype=np.int64).reshape(2, 3, 4, 5, 3).astype(np.uint8)
    video = frames_to_video(frames)
    assert video.shape == (2, 3, 3, 4, 5)
    assert float(video.max()) == 1
    np.testing.assert_array_equal(video_to_frames(video), frames)


def test_values_outside_are_clipped_and_others_rounded() -> None:
    video = torch.tensor([-0.5, 0.4 / 255, 0.6 / 255, 2.0]).view(4, 1, 1, 1).expand(4, 3, 1, 1)
    assert video_to_frames(video)[:, 0, 0, 0].tolist() == [0, 0, 1, 255]


def test_a_quantised_video_is_what_a_reader_of_its_frames_sees() -> None:
    video = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    torch.testing.assert_close(quantise(video), frames_to_video(video_to_frames(video)))
