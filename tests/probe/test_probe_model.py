from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from probe_fakes import state_of

from roboalign.checkpoint import CheckpointError
from roboalign.probe.model import Probe, load_probe, save_probe
from roboalign.probe.spec import ProbeSpec
from roboalign.types import Episode

SIZE = (32, 32)


@pytest.fixture
def probe(smoke: ProbeSpec, seen: list[Episode]) -> Probe:
    torch.manual_seed(0)
    return Probe.of(smoke, seen[:16], SIZE).eval()


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
    members, points = probe.look("seen", "push", clips)
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
    save_probe(path, Probe.of(smoke, [], SIZE), "abc")
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
    probe = Probe.of(smoke, toy_episodes[:12], SIZE).eval()
    said = probe.states("toy", "push", toy_episodes[0].frames[None])
    assert np.isfinite(said).all()
    assert said[0, :, 8] == pytest.approx(0.1, abs=0.02), "all its points lie 10 cm up"


@pytest.mark.parametrize("changes", [{}, {"widths": (8, 16, 24, 32), "blocks": 2, "members": 3, "hidden": 24}])
def test_the_spec_counts_the_parameters(smoke: ProbeSpec, seen: list[Episode], changes: dict[str, object]) -> None:
    spec = smoke.model_copy(update=changes)
    probe = Probe.of(spec, seen[:16], SIZE)
    assert sum(p.numel() for p in probe.parameters()) == spec.parameters(len(probe.tasks))


def test_odd_sizes_are_read(smoke: ProbeSpec, seen: list[Episode]) -> None:
    spec = smoke.model_copy(update={"widths": (8, 16, 24)})
    cropped = [replace(episode, frames=episode.frames[:, :28, :20]) for episode in seen[:4]]
    probe = Probe.of(spec, cropped, (28, 20)).eval()
    assert probe.states("seen", "push", cropped[0].frames[None]).shape == (1, 10, 14)


def test_a_batch_has_to_divide_over_the_members() -> None:
    with pytest.raises(ValueError, match=r"7 does not divide over 2 members"):
        ProbeSpec.model_validate({"training": {"steps": 1, "batch": 7, "learning_rate": 0.1}})
