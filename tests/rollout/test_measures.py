import numpy as np
import pytest
import torch
from torch import Tensor

from roboalign.rollout.measures import curve, difference, measures, summary


def distance(video: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    error = (video - target).abs().mean(2)
    return error.mean((-2, -1)) if weights is None else (error * weights).sum((-2, -1)) / weights.sum((-2, -1))


def clips() -> tuple[Tensor, Tensor]:
    """Three clips of 1 + 5 frames: frame t is wrong by t / 10 in its moving corner, and right elsewhere."""
    truth = torch.zeros(3, 6, 3, 16, 16)
    truth[:, 1:, :, :4, :4] = 0.5
    video = truth.clone()
    for frame in range(1, 6):
        video[:, frame, :, :4, :4] += frame / 10
    return video, truth


def test_slow_measures_are_taken_at_some_frames_and_never_of_the_context() -> None:
    values = measures(*clips(), distance, every=2, batch=2)
    assert {name: array.shape for name, array in values.items()} == {
        "psnr": (3, 5), "ssim": (3, 2), "perceptual": (3, 2), "roi_perceptual": (3, 2),
    }  # fmt: skip
    assert values["perceptual"][0].tolist() == pytest.approx([0.2 / 16, 0.4 / 16])
    assert values["psnr"][0, 1] == pytest.approx(-10 * np.log10(0.04 / 16))
    # The region of interest is the moving corner, two pixels larger on each side: 6 x 6 instead of 16 x 16 pixels.
    assert values["roi_perceptual"][0].tolist() == pytest.approx([0.2 * 16 / 36, 0.4 * 16 / 36])


def test_without_a_distance_nothing_perceptual_is_reported() -> None:
    assert set(measures(*clips(), None, every=1, batch=8)) == {"psnr", "ssim"}


def test_summary_difference_and_curve() -> None:
    values = {"psnr": np.array([[20.0, 22.0], [24.0, 26.0]]), "ssim": np.array([[0.5], [0.7]])}
    lower = {"psnr": values["psnr"] - 1}
    assert summary(values)["psnr"] == {"mean": 23.0, "low": 21.0, "high": 25.0, "n": 2}
    assert difference(values, lower) == {"psnr": {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 2}}
    assert curve("a", values, 2) == [
        {"frame": 1, "model": "a", "psnr": 22.0},
        {"frame": 2, "model": "a", "psnr": 24.0, "ssim": 0.6},
    ]
