import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d

from roboalign.metrics.haarpsi import HaarPsi, haar_magnitudes, haarpsi
from roboalign.metrics.perceptual import build_perceptual
from roboalign.metrics.perceptual_spec import HaarPsiSpec


def pattern(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two images (1, 3, H, W) of stripes, ramps and checks, the second disturbed."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([((x // 5 + y // 7) % 2) * 0.8 + 0.1, x / width, (y + x) % 11 / 10])
    noise = torch.stack([((x * 7 + y * 3) % 5 - 2) / 2, ((x * 3 + y * 5) % 7 - 3) / 3, (x + y) % 3 - 1])
    return image[None].float(), (image + 0.1 * noise).clamp(0, 1)[None].float()


def textures(seed: int = 0, batch: int = 2, frames: int = 3, size: int = 64) -> Tensor:
    drawn = torch.rand(batch, frames, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return drawn.repeat_interleave(4, -1).repeat_interleave(4, -2)


@pytest.mark.parametrize(("size", "golden"), [((40, 48), 0.972779), ((33, 41), 0.977110)])
def test_it_has_the_values_of_piq(size: tuple[int, int], golden: float) -> None:
    # From piq 0.8.0, whose YIQ coefficients have a digit more than the authors'.
    left, right = (haar_magnitudes(image) for image in pattern(*size))
    assert haarpsi(left, right).item() == pytest.approx(golden, abs=2e-4)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), scale=st.floats(0, 1))
def test_equal_frames_are_at_zero_and_the_distance_is_symmetric(seed: int, scale: float) -> None:
    distance = HaarPsi()
    one, other = textures(seed, 1, 1, 16) * scale, textures(seed + 1, 1, 1, 16)
    assert distance(one, one).item() == 0
    assert distance(one, other).item() == pytest.approx(distance(other, one).item(), abs=1e-6)
    assert 0 <= distance(one, other).item() <= 1


def test_it_grows_with_blur_and_with_noise() -> None:
    target, distance = textures(), HaarPsi()
    blurs = [avg_pool2d(target.flatten(0, 1), width, 1, width // 2).view_as(target) for width in (3, 5, 9)]
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    for disturbed in (blurs, [target + deviation * noise for deviation in (0.02, 0.05, 0.2)]):
        found = [distance(video, target).mean().item() for video in disturbed]
        assert 0 < found[0] < found[1] < found[2] < 1


def test_weights_choose_the_region() -> None:
    target, distance = textures(batch=1, frames=1), HaarPsi()
    video = target.clone()
    video[..., 40:] = 0.5
    left, right = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    left[..., :16], right[..., 48:] = 1, 1
    assert distance(video, target, left).item() == pytest.approx(0, abs=1e-6)
    assert distance(video, target) < distance(video, target, right)
    assert distance(video, target, torch.zeros(1, 1, 64, 64)).item() == pytest.approx(distance(video, target).item())


def test_maps_serve_several_measures() -> None:
    video, target, distance = textures(1), textures(), HaarPsi()
    maps = distance.maps(video)
    assert maps.pooled_features.shape == (2, 3, 9)
    later = distance.between(maps.later(1), distance.maps(target[:, 1:]))
    assert torch.allclose(later, distance(video, target)[:, 1:])


def test_gradients_are_finite_and_lead_to_the_target() -> None:
    target, distance = textures(batch=1, frames=1, size=16), HaarPsi()
    still = torch.zeros(1, 1, 3, 16, 16, requires_grad=True)
    distance(still, torch.zeros(1, 1, 3, 16, 16)).sum().backward()
    assert still.grad is not None
    assert still.grad.isfinite().all()
    video = (0.5 * target + 0.25).requires_grad_()
    optimizer = torch.optim.Adam([video], 0.01)
    before = distance(video, target).item()
    for _ in range(30):
        optimizer.zero_grad()
        distance(video, target).sum().backward()
        optimizer.step()
    assert distance(video, target).item() < 0.5 * before


def test_a_spec_builds_it() -> None:
    built = build_perceptual(HaarPsiSpec(kind="haarpsi"))
    assert (built.name, built.features_name) == ("1 - HaarPSI", "Haar wavelet")
    with pytest.raises(ValueError, match=r"\(B, T, 3, H, W\)"):
        built(textures(), textures()[:, :1])
