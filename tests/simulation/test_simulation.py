"""Simulators from an experiment's files, and the command: with untrained models of a few thousand weights."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from roboalign.__main__ import main
from roboalign.rollout.spec import ArSpec, KvWindowSpec, SwrSpec
from roboalign.run import StageError
from roboalign.simulation.load import SimulationError, load
from roboalign.types import Episode
from tests.experiment_files import write_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, toy_episodes: list[Episode]) -> Path:
    root = tmp_path_factory.mktemp("experiment")
    write_experiment(root, toy_episodes)
    return root


def test_stepping_gives_pictures_and_the_same_ones_again(experiment: Path, toy_episodes: list[Episode]) -> None:
    simulation = load(experiment, decoding=ArSpec())
    episodes = toy_episodes[:2]
    firsts, actions = np.stack([each.frames[0] for each in episodes]), np.stack([each.actions for each in episodes], 1)
    runs = []
    for _ in range(2):
        world = simulation.reset("toy", firsts, [0, 1], 3)
        runs.append([simulation.step(world, simulation.actions("toy", row)) for row in actions[:3]])
    assert runs[0][0].shape == firsts.shape
    assert runs[0][0].dtype == np.uint8
    np.testing.assert_array_equal(runs[0], runs[1])


def test_a_robot_shows_the_same_alone_and_among_others(experiment: Path, toy_episodes: list[Episode]) -> None:
    simulation = load(experiment, temperature=1.0)
    world = simulation.reset("toy", toy_episodes[0].frames[:1].copy(), [7])
    crowd = world.select(torch.zeros(3, dtype=torch.long), torch.tensor([7, 8, 9]))
    tokens = []
    for action in toy_episodes[0].actions[:8]:
        alone = world.step(simulation.actions("toy", action[None]))
        tokens.append(crowd.step(simulation.actions("toy", np.stack([action] * 3))))
        assert torch.equal(tokens[-1][0], alone[0])
        assert torch.equal(crowd.current_frame[0], world.current_frame[0])
    assert any(not torch.equal(each[1], each[0]) for each in tokens)


def test_what_does_not_fit_is_named(experiment: Path, toy_episodes: list[Episode], tmp_path: Path) -> None:
    simulation = load(experiment)
    frames = toy_episodes[0].frames[:1]
    with pytest.raises(SimulationError, match="on the source 'fetch'; it was trained on: toy"):
        simulation.reset("fetch", frames, [0])
    with pytest.raises(SimulationError, match="the images must be"):
        simulation.reset("toy", frames[0], [0])
    with pytest.raises(SimulationError, match="4 dimensions, these have 3"):
        simulation.actions("toy", np.zeros((1, 3), np.float32))
    with pytest.raises(SimulationError, match="NaN"):
        simulation.actions("toy", np.full((1, 4), np.nan, np.float32))
    with pytest.raises(StageError, match=r"rollout\.yaml is missing"):
        load(tmp_path)


def test_the_command_writes_a_video_beside_the_recording(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clip.mp4"
    assert main(["--root", str(experiment), "rollout", "--episode", "toy/000001", "--out", str(out)]) == 0
    assert "PSNR against the recording" in capsys.readouterr().out
    with av.open(str(out)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 12
    assert frames[0].shape[1] > 2 * frames[0].shape[0] * 0.99


def test_the_command_takes_actions_of_ones_own(experiment: Path, tmp_path: Path) -> None:
    actions = tmp_path / "actions.json"
    actions.write_text(json.dumps([[0.1, 0, 0, 0]] * 5))
    command = ["--root", str(experiment), "rollout", "--episode", "toy/000001", "--actions", str(actions)]
    assert main([*command, "--out", str(tmp_path / "clip.npy")]) == 0
    assert np.load(tmp_path / "clip.npy").shape == (6, 32, 32, 3)
    assert main([*command, "--frames", "2", "--out", str(tmp_path / "strip.png")]) == 0
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.size == (96, 32)


def test_the_decoding_is_the_scored_one_unless_another_is_named(experiment: Path) -> None:
    assert load(experiment).decoding == SwrSpec(window=3)
    assert load(experiment, decoding="kv_window").decoding == KvWindowSpec(frames=3)


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["--episode", "toy/9"], 2, "no episode 'toy/9'"),
        (["--start", "12"], 2, "frames 0 to 11"),
        (["--out", "clip.gif"], 2, "written as .mp4"),
        (["--actions", "none.npy"], 1, "none.npy cannot be read"),
        (["--start", "11"], 2, "no actions"),
        (["--decoding", "both"], 1, "train one with world_model.contexts: 2"),
        (["--decoding", "true_refresh"], 1, "needs true future frames"),
        (["--decoding", "swr_drift"], 1, "is measured by the rollout stage"),
        (["--decoding", "swr6"], 1, "rollout.decodings has no 'swr6'; it has ar, swr,"),
    ],
)
def test_wrong_arguments_are_answered(
    experiment: Path, capsys: pytest.CaptureFixture[str], changes: list[str], code: int, message: str
) -> None:
    assert main(["--root", str(experiment), "rollout", "--episode", "toy/000001", *changes]) == code
    assert message in capsys.readouterr().err
