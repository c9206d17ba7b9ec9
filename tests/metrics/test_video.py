import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from roboalign.metrics import video as measures
from roboalign.metrics.perceptual_spec import LpipsSpec, StLpipsSpec
from roboalign.metrics.video import (
    Perceptual,
    build_perceptual,
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


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    return Perceptual()


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


def test_st_lpips_is_a_distance_and_repeats_itself(perceptual: Perceptual) -> None:
    target = clip(size=64)
    near, far = (target + 0.02 * clip(1, size=64)).clamp(0, 1), clip(2, size=64)
    assert perceptual.name == "ST-LPIPS"
    assert perceptual(target, target).abs().max() == 0
    assert (perceptual(near, target) < perceptual(far, target)).all()
    assert torch.equal(perceptual(far, target), perceptual.train()(far, target))
    assert not any(parameter.requires_grad for parameter in perceptual.parameters())


def test_st_lpips_weighs_regions(perceptual: Perceptual) -> None:
    target = clip(size=64, batch=1, frames=1)
    video = target.clone()
    video[..., 40:] = 0.5
    left, right = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    left[..., :16], right[..., 48:] = 1, 1
    assert perceptual(video, target, left) < perceptual(video, target) < perceptual(video, target, right)


def test_st_lpips_is_what_its_package_computes(perceptual: Perceptual) -> None:
    video, target = clip(1, size=64), clip(size=64)
    frames = video.flatten(0, 1), target.flatten(0, 1)
    perceptual.net.spatial = False
    plain = perceptual.net(*frames, normalize=True)
    assert torch.allclose(perceptual(video, target).flatten(), plain.flatten(), rtol=1e-5)
    weights = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    perceptual.net.spatial = True
    places = perceptual.net(*frames, normalize=True)[:, 0].reshape(2, 3, 64, 64)
    expected = (places * weights).sum((-2, -1)) / weights.sum((-2, -1))
    assert torch.allclose(perceptual(video, target, weights), expected, rtol=1e-5)


def test_what_was_seen_serves_several_measures(perceptual: Perceptual) -> None:
    video, target = clip(1, size=48), clip(size=48)
    seen = perceptual.maps(video)
    assert seen.pooled_features.shape == (2, 3, 256)
    later = perceptual.between(seen.later(1), perceptual.maps(target[:, 1:]))
    assert torch.allclose(later, perceptual(video, target)[:, 1:], rtol=1e-5)


def test_a_perceptual_loss_has_finite_gradients_where_frames_are_equal(perceptual: Perceptual) -> None:
    video = torch.zeros(1, 1, 3, 64, 64, requires_grad=True)
    perceptual(video, torch.zeros(1, 1, 3, 64, 64)).sum().backward()
    assert video.grad is not None
    assert video.grad.isfinite().all()


def test_lpips_needs_the_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    file = tmp_path / "weights.pth"
    torch.save(squeezenet1_1().state_dict(), file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="is not torchvision's squeezenet"):
        Perceptual(str(file), backbone="squeeze")
    with pytest.raises(ValueError, match="download it again"):
        Perceptual(str(file), "0" * 64, backbone="squeeze")
    monkeypatch.setitem(measures.PUBLISHED, "squeeze", (measures.PUBLISHED["squeeze"][0], found[:8]))
    hub = torch.hub.get_dir()
    lpips = Perceptual(str(file), found, backbone="squeeze")
    assert torch.hub.get_dir() == hub
    assert lpips.name == "LPIPS"
    target = clip(size=48)
    assert lpips(target, target).abs().max() == 0
    frames = clip(1, size=48).flatten(0, 1), target.flatten(0, 1)
    expected = lpips.net(*frames, normalize=True).flatten()
    assert torch.allclose(lpips(clip(1, size=48), target).flatten(), expected, rtol=1e-5)
    spec = LpipsSpec(kind="lpips", backbone="squeeze", weights=str(file), sha256=found)
    built = build_perceptual(spec)
    assert (built.name, built.trunk) == ("LPIPS", "SqueezeNet")
    assert torch.equal(built(clip(1, size=48), target), lpips(clip(1, size=48), target))
    assert build_perceptual(StLpipsSpec(kind="st_lpips")).name == "ST-LPIPS"
    assert lpips(clip(1, size=48), target).shape == (2, 3)
    assert (lpips(clip(1, size=48), target, torch.ones(2, 3, 48, 48)) > 0).all()


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
