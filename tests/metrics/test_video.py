import pytest
import torch
from torch import Tensor

from roboalign.metrics.video import (
    flicker,
    motion_energy,
    motion_ratio,
    moving_region,
    psnr,
    repeated_frames,
    ssim,
)


def clip(seed: int = 0, batch: int = 2, frames: int = 3, size: int = 32) -> Tensor:
    return torch.rand(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_psnr_has_its_golden_values() -> None:
    target = torch.full((1, 2, 3, 16, 16), 0.5)
    target_off = target.clone()
    target_off[:, 1] += 0.1
    assert psnr(target_off, target)[0].tolist() == pytest.approx([100.0, 20.0], abs=1e-3)
    weights = torch.zeros(1, 2, 16, 16)
    half_off = target.clone()
    half_off[:, 1, :, :8] += 0.1
    weights[:, 1, :8] = 2.0
    # Frame 0 has no weights: the whole frame counts.
    assert psnr(half_off, target, weights)[0].tolist() == pytest.approx([100.0, 20.0], abs=1e-3)
    assert psnr(half_off, target)[0, 1].item() == pytest.approx(23.0103, abs=1e-3)


def test_ssim_of_constant_frames_follows_the_formula() -> None:
    one, other = torch.full((1, 1, 3, 32, 32), 0.6), torch.full((1, 1, 3, 32, 32), 0.4)
    luminance = (2 * 0.6 * 0.4 + 1e-4) / (0.36 + 0.16 + 1e-4)
    assert ssim(one, other).item() == pytest.approx(luminance, abs=1e-3)
    assert ssim(one, other, torch.ones(1, 1, 32, 32)).item() == pytest.approx(luminance, abs=1e-3)


def test_ssim_is_per_frame_and_per_region() -> None:
    target = clip()
    video = target.clone()
    video[1, 2, :, :, 16:] = 0.5
    scores = ssim(video, target)
    assert scores.shape == (2, 3)
    assert (scores == 1).sum() == 5
    left, right = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    left[..., :10], right[..., 22:] = 1, 1
    assert ssim(video, target, left)[1, 2].item() == pytest.approx(1.0, abs=1e-5)
    assert ssim(video, target, right)[1, 2] < 0.5
    with pytest.raises(ValueError, match="at least 11"):
        ssim(clip(size=8), clip(size=8))
    with pytest.raises(ValueError, match=r"\(B, T, 3, H, W\)"):
        psnr(target[0], target[0])


def test_moving_region_is_what_differs_from_the_first_frame() -> None:
    target = torch.zeros(1, 2, 3, 16, 16)
    target[0, 1, 1, 8, 8] = 1.0
    region = moving_region(target, grow=1)
    assert region[0, 0].sum() == 0
    assert region[0, 1].sum() == 9
    assert region[0, 1, 7:10, 7:10].all()


def test_repeated_frames_motion_and_flicker() -> None:
    still = torch.full((1, 4, 3, 8, 8), 0.5)
    ramp = still + torch.arange(4).view(1, 4, 1, 1, 1) * 0.1
    blink = still + torch.tensor([0.0, 0.2, 0.0, 0.2]).view(1, 4, 1, 1, 1)
    assert repeated_frames(still).item() == 1
    assert repeated_frames(ramp).item() == 0
    assert repeated_frames(torch.cat([ramp, ramp[:, -1:]], 1)).item() == 0.25
    assert motion_ratio(still, still).item() == 1
    assert motion_ratio(ramp, ramp).item() == 1
    assert motion_ratio(blink, ramp).item() == pytest.approx(4, rel=1e-3)
    assert motion_ratio(still, ramp).item() < 1e-3
    assert flicker(ramp).item() == pytest.approx(0, abs=1e-6)
    assert flicker(blink).item() == pytest.approx(0.2)
    assert motion_energy(ramp).item() == pytest.approx(0.01)
    assert motion_energy(ramp[:, :1]).item() == 0
    assert repeated_frames(still[:, :1]).item() == flicker(still[:, :2]).item() == 0
