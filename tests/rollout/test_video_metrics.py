import warnings

import numpy as np
import pytest
import torch
from rollout_fakes import PixelDistance
from torch import Tensor

from roboalign.metrics.perceptual_distance import Maps
from roboalign.rollout.video_metrics import (
    metric_curve,
    paired_differences,
    summarize,
    summarize_temporal,
    temporal_metrics,
    video_metrics,
)


class Whole:
    """Remembers the frames that it was given."""

    def __init__(self) -> None:
        self.taken: list[Tensor] = []

    def features(self, video: Tensor, maps: Maps) -> Tensor:
        assert torch.equal(maps.layers[0], video)
        return video

    def update(self, features: Tensor) -> None:
        self.taken.append(features)

    def compute(self) -> dict[str, float]:
        return {"frechet": 0.5}


distance = PixelDistance()


def clips() -> tuple[Tensor, Tensor]:
    """Three clips of 1 + 5 frames: frame t is wrong by t / 10 in its moving corner, and right elsewhere."""
    truth = torch.zeros(3, 6, 3, 16, 16)
    truth[:, 1:, :, :4, :4] = 0.5
    video = truth.clone()
    for frame in range(1, 6):
        video[:, frame, :, :4, :4] += frame / 10
    return video, truth


def test_slow_measures_are_taken_at_some_frames_and_never_of_the_context() -> None:
    values = video_metrics(*clips(), distance, every=2, batch=2)
    assert {name: array.shape for name, array in values.items()} == {
        "psnr": (3, 5), "ssim": (3, 2), "perceptual": (3, 2), "roi_perceptual": (3, 2),
    }  # fmt: skip
    assert values["perceptual"][0].tolist() == pytest.approx([0.2 / 16, 0.4 / 16])
    assert values["psnr"][0, 1] == pytest.approx(-10 * np.log10(0.04 / 16))
    # The region of interest is the moving corner, two pixels larger on each side: 6 x 6 instead of 16 x 16 pixels.
    assert values["roi_perceptual"][0].tolist() == pytest.approx([0.2 * 16 / 36, 0.4 * 16 / 36])


def test_without_a_distance_nothing_perceptual_is_reported() -> None:
    assert set(video_metrics(*clips(), None, every=1, batch=8)) == {"psnr", "ssim"}


def test_a_distance_of_sets_takes_in_the_measured_frames_after_the_given_one() -> None:
    video, truth = clips()
    whole = Whole()
    video_metrics(video, truth, distance, every=2, batch=2, whole=whole)
    assert [len(part) for part in whole.taken] == [2, 1]
    assert torch.equal(torch.cat(whole.taken), video[:, [0, 2, 4]])


def test_flicker_repeats_and_motion_against_the_truth() -> None:
    steps = torch.arange(6).float() / 10
    truth = steps.view(1, 6, 1, 1, 1).expand(2, 6, 3, 16, 16).clone()
    still = truth.clone()
    still[:, 1:] = still[:, 1:2]  # moves from the given frame to the first predicted one alone
    double = truth.clone()
    double[:, 2::2] += 0.1
    values = {
        name: temporal_metrics(video, 1) for name, video in (("truth", truth), ("still", still), ("double", double))
    }
    assert {name: array.shape for name, array in values["truth"].items()} == {
        "flicker": (2,), "repeated_frames": (2,), "motion": (2,),
    }  # fmt: skip
    found = {name: summarize_temporal(value, values["truth"]) for name, value in values.items()}
    assert found["truth"]["motion_ratio"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 2}
    assert found["still"]["motion_ratio"]["mean"] < 1e-4
    assert found["still"]["repeated_frames"]["mean"] == 1
    # Steps of .2 and 0 in turn: twice the energy, and .1 off the neighbours' mean.
    assert found["double"]["motion_ratio"]["mean"] == pytest.approx(2, rel=1e-3)
    assert found["double"]["flicker"]["mean"] == pytest.approx(0.1)
    assert found["truth"]["flicker"]["mean"] == pytest.approx(0, abs=1e-6)


def test_summary_difference_and_curve() -> None:
    values = {"psnr": np.array([[20.0, 22.0], [24.0, 26.0]]), "ssim": np.array([[0.5], [0.7]])}
    lower = {"psnr": values["psnr"] - 1}
    assert summarize(values)["psnr"] == {"mean": 23.0, "low": 21.0, "high": 25.0, "n": 2}
    assert paired_differences(values, lower) == {"psnr": {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 2}}
    assert metric_curve("a", values, 2) == [
        {"frame": 1, "model": "a", "psnr": 22.0, "psnr_low": 20.0, "psnr_high": 24.0},
        {"frame": 2, "model": "a", "psnr": 24.0, "psnr_low": 22.0, "psnr_high": 26.0}
        | {"ssim": pytest.approx(0.6), "ssim_low": 0.5, "ssim_high": 0.7},
    ]


@pytest.mark.parametrize("batch", [1, 2])
def test_the_batch_size_changes_no_value(batch: int) -> None:
    video, truth = clips()
    for measure in (
        lambda size: video_metrics(video, truth, distance, every=2, batch=size),
        lambda size: temporal_metrics(video, size),
    ):
        whole, parts = measure(3), measure(batch)
        assert whole.keys() == parts.keys()
        for name, values in whole.items():
            np.testing.assert_array_equal(parts[name], values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU runs apart from the program")
def test_no_batch_waits_for_the_device() -> None:
    video, truth = (part.cuda() for part in clips())
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            video_metrics(video, truth, None, every=2, batch=1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) <= 2, "one transfer for each of two measures"
