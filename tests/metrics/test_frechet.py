"""The Fréchet distance: golden values, what it tells apart, and that batches and order do not matter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from roboalign.checkpoint import CheckpointError
from roboalign.metrics.frechet import Frechet, TimmFeatures, between_halves, projection
from roboalign.metrics.frechet_spec import FrechetSpec, TimmFeaturesSpec
from roboalign.metrics.haarpsi import HaarPsi
from roboalign.metrics.lpips import Lpips
from roboalign.metrics.perceptual_distance import PerceptualDistance

SPEC = FrechetSpec(dimension=4)


@pytest.fixture(scope="module")
def perceptual() -> PerceptualDistance:
    return HaarPsi()


class Given(Frechet):
    """Takes features for videos, unprojected: (B, T, dimension)."""

    def features(self, video: Tensor, maps: Any = None) -> Tensor:
        return video


def clips(count: int = 12, frames: int = 6, size: int = 32, seed: int = 0) -> Tensor:
    """A bright square on a textured ground moves evenly to a side of each clip's own."""
    generator = torch.Generator().manual_seed(seed)
    ground = torch.rand(count, 1, 3, size // 4, size // 4, generator=generator)
    ground = ground.repeat_interleave(4, -1).repeat_interleave(4, -2) * 0.5
    video = ground.expand(-1, frames, -1, -1, -1).clone()
    for clip in range(count):
        row, speed = (clip * 5) % (size - 8), 1 + clip % 3
        for frame in range(frames):
            video[clip, frame, :, row : row + 8, frame * speed : frame * speed + 8] = 1.0
    return video


def blurred(video: Tensor, width: int) -> Tensor:
    frames = avg_pool2d(video.flatten(0, 1), width, 1, width // 2, count_include_pad=False)
    return frames.reshape(video.shape)


def distances(
    video: Tensor, truth: Tensor, perceptual: PerceptualDistance, spec: FrechetSpec = SPEC
) -> dict[str, float]:
    made = Frechet(spec, perceptual)
    made.reference([truth])
    made.update(made.features(video))
    return made.compute()


def with_moments(mean: Tensor, deviations: Tensor, seed: int) -> Tensor:
    """200 clips of two frames, the second of which has exactly these moments."""
    drawn = torch.randn(200, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn -= drawn.mean(0)
    drawn @= torch.linalg.cholesky(torch.cov(drawn.T)).inverse().T
    second = drawn * deviations + mean
    return torch.stack([torch.zeros_like(second), second], 1)


def test_gaussians_have_the_distance_of_the_formula(perceptual: PerceptualDistance) -> None:
    one, other = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([2.0, 1.0, 0.5])
    shift = torch.tensor([0.3, 0.0, -0.4])
    made = Given(FrechetSpec(dimension=3), perceptual)
    made.reference([with_moments(torch.zeros(3), one, 0)])
    made.update(with_moments(shift, other, 1))
    # Of diagonal covariances: squared distance of the means, and of the standard deviations.
    assert made.compute()["frechet"] == pytest.approx(0.25 + 1 + 1, rel=1e-6)


def test_equal_sets_are_at_zero_and_the_distance_is_symmetric(perceptual: PerceptualDistance) -> None:
    one, other = clips(seed=0), blurred(clips(seed=1), 3)
    assert max(distances(one, one, perceptual).values()) < 1e-6
    there, back = (distances(*pair, perceptual)["frechet"] for pair in ((one, other), (other, one)))
    assert there == pytest.approx(back, rel=1e-5)
    assert there > 1e-3


def test_it_grows_with_blur_and_with_noise(perceptual: PerceptualDistance) -> None:
    truth = clips()
    blurs = [distances(blurred(truth, width), truth, perceptual)["frechet"] for width in (1, 3, 5, 9)]
    assert blurs == sorted(blurs)
    assert blurs[1] > 1e-3
    drawn = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    noises = [
        distances((truth + level * drawn).clamp(0, 1), truth, perceptual)["frechet"] for level in (0.02, 0.1, 0.3)
    ]
    assert noises == sorted(noises)


def cycles() -> Tensor:
    """One moving clip, begun at each of its frames in turn and wrapped: each frame stands at each place once."""
    one = clips(1, 12)[0]
    return torch.stack([one.roll(-start, 0) for start in range(len(one))])


def test_only_the_change_of_features_tells_frozen_and_shuffled_clips(perceptual: PerceptualDistance) -> None:
    truth = cycles()
    frozen = truth[:, :1].expand_as(truth)  # by clip another frame: the same frames, as often
    order = torch.randperm(truth.shape[1] - 1, generator=torch.Generator().manual_seed(0)) + 1
    shuffled = truth[:, torch.cat([torch.zeros(1, dtype=torch.long), order])]
    spread = Frechet(SPEC, perceptual).features(truth).flatten(0, 1).var(0).sum().item()
    for other in (frozen, shuffled):
        found = distances(other, truth, perceptual)
        assert found["frechet"] < 1e-6 * spread
        assert found["frechet_motion"] > 0.1 * spread


def test_batches_and_earlier_sets_change_nothing(perceptual: PerceptualDistance) -> None:
    truth, video = clips(), blurred(clips(seed=3), 3)
    whole = distances(video, truth, perceptual)
    made = Frechet(SPEC, perceptual)
    made.reference(torch.split(truth, 5))
    for other in (truth * 0.5, video):
        for part in torch.split(other, 7):
            made.update(made.features(part))
        found = made.compute()
    assert found == pytest.approx(whole, rel=1e-4)
    maps = perceptual.maps(video)
    assert torch.equal(made.features(video, maps), made.features(video))


def test_too_few_frames_are_refused_with_the_remedy(perceptual: PerceptualDistance) -> None:
    made = Frechet(FrechetSpec(dimension=16), perceptual)
    with pytest.raises(ValueError, match=r"at least 33 measured frames, and there are 10; lower evaluation\.frechet"):
        made.reference([clips(2)])
    made = Frechet(SPEC, perceptual)
    made.reference([clips()])
    made.update(made.features(clips(1)))
    with pytest.raises(ValueError, match="needs 9 frames, and this set has 5"):
        made.compute()


def test_the_halves_of_the_truth_are_apart_only_by_their_scenes(perceptual: PerceptualDistance) -> None:
    twice = clips(6).repeat_interleave(2, 0)
    assert max(between_halves(SPEC, perceptual, twice, 4).values()) < 1e-6
    found = between_halves(SPEC, perceptual, clips(12), 4)
    assert found["frechet"] > 1e-4
    assert found == pytest.approx(distances(clips(12)[1::2], clips(12)[::2], perceptual), rel=1e-4)
    assert between_halves(SPEC, perceptual, clips(2), 4) == {}


def test_the_projection_is_seeded_and_keeps_lengths_in_the_mean() -> None:
    spec = FrechetSpec(dimension=64)
    assert torch.equal(projection(256, spec), projection(256, spec))
    assert not torch.equal(projection(256, spec), projection(256, spec.model_copy(update={"seed": 1})))
    points = torch.randn(100, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = (points @ projection(256, spec)).square().sum(1) / points.square().sum(1)
    assert kept.mean().item() == pytest.approx(1, abs=0.1)


def test_it_goes_by_the_name_of_its_features(perceptual: PerceptualDistance) -> None:
    assert Frechet(SPEC, perceptual).name == "Fréchet distance on Haar wavelet features"
    assert Frechet(SPEC, Lpips()).name == "Fréchet distance on ST-LPIPS AlexNet features"
    spec = FrechetSpec(features=TimmFeaturesSpec(kind="timm", model="resnet10t"), dimension=4)
    assert Frechet(spec, perceptual).name == "Fréchet distance on resnet10t with random weights features"
    truth = clips(4, 4)
    made = Frechet(spec, perceptual)
    assert made.features(truth).shape == (4, 4, 4)
    assert torch.equal(made.features(truth), Frechet(spec, perceptual).features(truth))
    assert max(distances(truth, truth, perceptual, spec).values()) < 1e-6


def test_timm_weights_come_from_a_file_that_must_be_theirs(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(3)
    whole = timm.create_model("resnet10t", pretrained=False)
    file = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), file)
    network = TimmFeatures(TimmFeaturesSpec(kind="timm", model="resnet10t", weights=str(file)))
    assert network.name == "resnet10t"
    loaded = network.net.state_dict()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in loaded.items())
    with pytest.raises(CheckpointError, match="download it again"):
        TimmFeatures(TimmFeaturesSpec(kind="timm", model="resnet10t", weights=str(file), sha256="0" * 64))
    with pytest.raises(CheckpointError, match="its weights do not fit its model"):
        TimmFeatures(TimmFeaturesSpec(kind="timm", model="resnet14t", weights=str(file)))
    with pytest.raises(ValueError, match="timm has no model resnet10000"):
        TimmFeatures(TimmFeaturesSpec(kind="timm", model="resnet10000"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight.half(), "of type torch.float16, not torch.float32"),
        (lambda weight: weight.int(), "of type torch.int32, not torch.float32"),
        (lambda weight: weight[:1], "has the shape"),
        (lambda weight: weight * float("nan"), "not finite"),
        (lambda weight: weight / 0, "not finite"),
        (None, "cannot be read"),
    ],
)
def test_foreign_timm_weights_keep_the_contract_of_our_own(
    tmp_path: Path, change: Callable[[Tensor], Tensor] | None, message: str
) -> None:
    import timm
    from safetensors.torch import save_file

    tensors = timm.create_model("resnet10t", pretrained=False).state_dict()
    file = tmp_path / "weights.safetensors"
    if change is None:
        file.write_bytes(b"no safetensors")
    else:
        save_file(tensors | {"layer1.0.conv1.weight": change(tensors["layer1.0.conv1.weight"]).contiguous()}, file)
    with pytest.raises(CheckpointError, match=rf"weights\.safetensors.*{message}"):
        TimmFeatures(TimmFeaturesSpec(kind="timm", model="resnet10t", weights=str(file)))
