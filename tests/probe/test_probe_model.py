from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from probe_fakes import state_of

from roboalign.checkpoint import CheckpointError
from roboalign.probe.model import Probe, load_probe, save_probe
from roboalign.probe.spec import ProbeSpec, ProbesSpec
from roboalign.types import Episode

SIZE = (32, 32)


@pytest.fixture
def probe(smoke: ProbeSpec, seen: list[Episode]) -> Probe:
    torch.manual_seed(0)
    return Probe.of(smoke.network, seen[:16], SIZE).eval()


def test_states_have_their_ranges_and_one_goal(probe: Probe, seen: list[Episode]) -> None:
    states = probe.states("seen", "push", np.stack([seen[0].frames, seen[2].frames]))
    assert states.shape == (2, 10, 14)
    assert states.dtype == np.float32
    assert (states[..., 6:9] == states[:, :1, 6:9]).all(), "the goal does not move within a clip"
    assert states[..., 9:11].min() >= 0
    assert states[..., 9:11].max() <= 1
    assert states[..., 11:13].min() >= 0
    assert states[..., 13].max() <= 1


def test_clips_do_not_depend_on_their_batch(probe: Probe, seen: list[Episode]) -> None:
    clips = np.stack([episode.frames for episode in seen[:16:2]])
    whole = probe.states("seen", "push", clips)
    alone = np.concatenate([probe.states("seen", "push", clips[i : i + 1]) for i in range(len(clips))])
    assert whole == pytest.approx(alone, abs=1e-5)
    assert np.array_equal(whole, probe.states("seen", "push", clips))


def test_the_answer_is_the_mean_of_different_members(probe: Probe, seen: list[Episode]) -> None:
    clips = seen[0].frames[None]
    members, points = probe.read_states("seen", "push", clips)
    assert members.shape[0] == points.shape[0] == probe.spec.members == 2
    assert not np.array_equal(members[0], members[1])
    assert np.array_equal(members.mean(0), probe.states("seen", "push", clips))


def test_a_saved_probe_says_the_same(probe: Probe, seen: list[Episode], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_probe(path, probe, "abc")
    again = load_probe(path)
    assert again.tasks == (("seen", "place"), ("seen", "push"))
    clips = seen[1].frames[None]
    assert np.array_equal(probe.states("seen", "place", clips), again.states("seen", "place", clips))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError):
        load_probe(path)


def test_what_it_does_not_cover_is_refused(probe: Probe, seen: list[Episode]) -> None:
    assert probe.covers("seen", "push")
    assert not probe.covers("real", "push")
    with pytest.raises(ValueError, match=r"not trained on real/push; it covers: seen/place, seen/push"):
        probe.states("real", "push", seen[0].frames[None])
    with pytest.raises(ValueError, match="32"):
        probe.states("seen", "push", np.zeros((1, 4, 16, 16, 3), np.uint8))


def test_a_probe_of_no_source_is_saved_and_covers_nothing(smoke: ProbeSpec, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_probe(path, Probe.of(smoke.network, [], SIZE), "abc")
    probe = load_probe(path)
    assert not probe.covers("seen", "push")
    with pytest.raises(ValueError, match="covers: none"):
        probe.states("seen", "push", np.zeros((1, 4, 32, 32, 3), np.uint8))


def test_untrained_it_places_points_on_the_planes_that_the_task_has(probe: Probe, seen: list[Episode]) -> None:
    """Before any training the answer is right wherever the picture's points are: the table's height, for the goal."""
    said = probe.states("seen", "push", seen[0].frames[None])[0]
    assert said[0, 8] == pytest.approx(0.02, abs=0.01)
    assert np.abs(said[:, 3:5] - state_of(seen[0])[:, 3:5]).max() < 1


def test_a_task_on_one_plane_needs_no_camera(smoke: ProbeSpec, toy_episodes: list[Episode]) -> None:
    probe = Probe.of(smoke.network, toy_episodes[:12], SIZE).eval()
    said = probe.states("toy", "push", toy_episodes[0].frames[None])
    assert np.isfinite(said).all()
    assert said[0, :, 8] == pytest.approx(0.1, abs=0.02), "all its points lie 10 cm up"


@pytest.mark.parametrize("changes", [{}, {"widths": (8, 16, 24, 32), "blocks": 2, "members": 3, "hidden_size": 24}])
def test_the_spec_counts_the_parameters(smoke: ProbeSpec, seen: list[Episode], changes: dict[str, object]) -> None:
    spec = smoke.network.model_copy(update=changes)
    probe = Probe.of(spec, seen[:16], SIZE)
    assert sum(p.numel() for p in probe.parameters()) == spec.parameters(len(probe.tasks))


def test_odd_sizes_are_read(smoke: ProbeSpec, seen: list[Episode]) -> None:
    spec = smoke.network.model_copy(update={"widths": (8, 16, 24)})
    cropped = [replace(episode, frames=episode.frames[:, :28, :20]) for episode in seen[:4]]
    probe = Probe.of(spec, cropped, (28, 20)).eval()
    assert probe.states("seen", "push", cropped[0].frames[None]).shape == (1, 10, 14)


def test_a_batch_has_to_divide_over_the_members() -> None:
    with pytest.raises(ValueError, match=r"7 must be divisible by members \(2\)"):
        ProbeSpec.model_validate({"members": 2, "training": {"steps": 1, "batch_size": 7, "learning_rate": 0.1}})


def first_frames(episodes: list[Episode]) -> torch.Tensor:
    return torch.from_numpy(np.stack([episode.frames[0] for episode in episodes])).permute(0, 3, 1, 2).float() / 255


def test_a_scene_is_recognised_by_its_first_frame(
    probe: Probe, seen: list[Episode], toy_episodes: list[Episode]
) -> None:
    one_task = [episode for episode in seen if episode.task == "push"]
    alone = Probe.of(probe.spec, one_task[:8], SIZE)
    assert alone.scenes.identify(first_frames(one_task)).tolist() == [0] * len(one_task)
    foreign = torch.cat([torch.rand(1, 3, *SIZE), torch.zeros(1, 3, *SIZE), 1 - first_frames(seen[:1])])
    assert alone.scenes.identify(foreign).tolist() == [-1, -1, -1]
    assert Probe(probe.spec, [], SIZE).scenes.identify(foreign).tolist() == [-1, -1, -1]


def test_the_nearest_of_several_scenes_is_taken(probe: Probe, seen: list[Episode]) -> None:
    bright = [replace(e, task="bright", frames=e.frames + np.uint8(20)) for e in seen[:8:2]]
    both = Probe.of(probe.spec, [*seen[:8:2], *bright], SIZE)
    assert both.tasks == (("seen", "bright"), ("seen", "push"))
    assert both.scenes.identify(first_frames(bright)).tolist() == [0] * 4
    assert both.scenes.identify(first_frames(seen[:8:2])).tolist() == [1] * 4


def test_perception_has_gradients_to_the_pixels(probe: Probe, seen: list[Episode]) -> None:
    videos = torch.from_numpy(seen[0].frames[None, :3]).permute(0, 1, 4, 2, 3).float() / 255
    videos.requires_grad_()
    found = probe.perceive(videos, torch.tensor([1]), 0)
    assert (found.states.shape, found.points.shape, found.peaks.shape) == ((1, 3, 14), (1, 3, 3, 2), (1, 3, 3))
    assert ((found.peaks > 0) & (found.peaks <= 1)).all()
    found.states.sum().backward()
    assert videos.grad is not None
    assert videos.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gold": {"part": 0}}, "gold and judge use the same part 0"),
        ({"held_out": {"parts": 4}}, "parts is 4, but judge.parts is 3"),
        ({"gold": {"part": 3}}, r"part \(3\) must be below"),
    ],
)
def test_probes_that_are_not_independent_are_refused(changes: dict[str, dict[str, int]], message: str) -> None:
    value = yaml.safe_load(Path("specs/probe/smoke.yaml").read_text())
    for name, change in changes.items():
        value[name] |= change
    with pytest.raises(ValueError, match=message):
        ProbesSpec.model_validate(value)


@pytest.mark.parametrize("path", sorted(Path("specs/probe").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path: Path) -> None:
    ProbesSpec.model_validate(yaml.safe_load(path.read_text()))
