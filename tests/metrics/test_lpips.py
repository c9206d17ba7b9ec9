import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from roboalign.metrics import lpips as lpips_module
from roboalign.metrics.lpips import Lpips
from roboalign.metrics.perceptual import build_perceptual
from roboalign.metrics.perceptual_spec import LpipsSpec, StLpipsSpec


def clip(seed: int = 0, batch: int = 2, frames: int = 3, size: int = 32) -> Tensor:
    return torch.rand(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def st_lpips() -> Lpips:
    return Lpips()


def test_st_lpips_is_a_distance_and_repeats_itself(st_lpips: Lpips) -> None:
    target = clip(size=64)
    near, far = (target + 0.02 * clip(1, size=64)).clamp(0, 1), clip(2, size=64)
    assert st_lpips.name == "ST-LPIPS"
    assert st_lpips(target, target).abs().max() == 0
    assert (st_lpips(near, target) < st_lpips(far, target)).all()
    assert torch.equal(st_lpips(far, target), st_lpips.train()(far, target))
    assert not any(parameter.requires_grad for parameter in st_lpips.parameters())


def test_st_lpips_weighs_regions(st_lpips: Lpips) -> None:
    target = clip(size=64, batch=1, frames=1)
    video = target.clone()
    video[..., 40:] = 0.5
    left, right = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    left[..., :16], right[..., 48:] = 1, 1
    assert st_lpips(video, target, left) < st_lpips(video, target) < st_lpips(video, target, right)


def test_st_lpips_is_what_its_package_computes(st_lpips: Lpips) -> None:
    video, target = clip(1, size=64), clip(size=64)
    frames = video.flatten(0, 1), target.flatten(0, 1)
    st_lpips.net.spatial = False
    plain = st_lpips.net(*frames, normalize=True)
    assert torch.allclose(st_lpips(video, target).flatten(), plain.flatten(), rtol=1e-5)
    weights = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    st_lpips.net.spatial = True
    places = st_lpips.net(*frames, normalize=True)[:, 0].reshape(2, 3, 64, 64)
    expected = (places * weights).sum((-2, -1)) / weights.sum((-2, -1))
    assert torch.allclose(st_lpips(video, target, weights), expected, rtol=1e-5)


def test_maps_serve_several_measures(st_lpips: Lpips) -> None:
    video, target = clip(1, size=48), clip(size=48)
    seen = st_lpips.maps(video)
    assert seen.pooled_features.shape == (2, 3, 256)
    later = st_lpips.between(seen.later(1), st_lpips.maps(target[:, 1:]))
    assert torch.allclose(later, st_lpips(video, target)[:, 1:], rtol=1e-5)


def test_st_lpips_has_finite_gradients_where_frames_are_equal(st_lpips: Lpips) -> None:
    video = torch.zeros(1, 1, 3, 64, 64, requires_grad=True)
    st_lpips(video, torch.zeros(1, 1, 3, 64, 64)).sum().backward()
    assert video.grad is not None
    assert video.grad.isfinite().all()


def test_lpips_needs_the_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    file = tmp_path / "weights.pth"
    torch.save(squeezenet1_1().state_dict(), file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="is not torchvision's squeezenet"):
        Lpips(str(file), backbone="squeeze")
    with pytest.raises(ValueError, match="download it again"):
        Lpips(str(file), "0" * 64, backbone="squeeze")
    monkeypatch.setitem(lpips_module.PUBLISHED, "squeeze", (lpips_module.PUBLISHED["squeeze"][0], found[:8]))
    hub = torch.hub.get_dir()
    lpips = Lpips(str(file), found, backbone="squeeze")
    assert torch.hub.get_dir() == hub
    assert lpips.name == "LPIPS"
    target = clip(size=48)
    assert lpips(target, target).abs().max() == 0
    frames = clip(1, size=48).flatten(0, 1), target.flatten(0, 1)
    expected = lpips.net(*frames, normalize=True).flatten()
    assert torch.allclose(lpips(clip(1, size=48), target).flatten(), expected, rtol=1e-5)
    spec = LpipsSpec(kind="lpips", backbone="squeeze", weights=str(file), sha256=found)
    built = build_perceptual(spec)
    assert (built.name, built.features_name) == ("LPIPS", "LPIPS SqueezeNet")
    assert torch.equal(built(clip(1, size=48), target), lpips(clip(1, size=48), target))
    assert build_perceptual(StLpipsSpec(kind="st_lpips")).name == "ST-LPIPS"
    assert lpips(clip(1, size=48), target).shape == (2, 3)
    assert (lpips(clip(1, size=48), target, torch.ones(2, 3, 48, 48)) > 0).all()
