"""The simulated robots' environments: recorded scenes, Gymnasium's contract, the spaces of the world model."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from roboalign.env import EnvError, RobotEnv, RobotVectorEnv, WorldModelVectorEnv
from roboalign.types import STATE_NAMES, Episode
from tests.env.conftest import FETCH, IMAGE, record_source, write_sources
from tests.experiment_files import write_experiment

SUCCESS = STATE_NAMES.index("success")


def test_episodes_begin_as_they_were_recorded(experiment: Path, fetch_episodes: list[Episode]) -> None:
    robots = RobotVectorEnv(len(fetch_episodes), robot="fetch", experiment=experiment)
    for _ in range(2):
        observations, infos = robots.reset(options={"episodes": [each.id for each in fetch_episodes]})
        np.testing.assert_array_equal(observations["image"], [each.frames[0] for each in fetch_episodes])
        assert observations["instruction"] == tuple(each.instruction for each in fetch_episodes)
        states = [each.state[0] for each in fetch_episodes if each.state is not None]
        np.testing.assert_array_equal(infos["states"], states)
        robots.step(np.ones((len(fetch_episodes), 4)))
    robots.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["metaworld", "panda", "jaco"])
def test_every_robot_begins_as_it_was_recorded(tmp_path: Path, kind: str) -> None:
    values = {"kind": kind, "episodes": 8, "length": 10, "image": IMAGE}
    episodes = record_source(values)
    write_experiment(tmp_path, episodes, models=False)
    write_sources(tmp_path, values)
    robots = gymnasium.make_vec(f"roboalign/{kind.title()}-v0", len(episodes), experiment=tmp_path)
    observations, _ = robots.reset(options={"episodes": [each.id for each in episodes]})
    np.testing.assert_array_equal(observations["image"], [each.frames[0] for each in episodes])
    robots.step(robots.action_space.sample())
    robots.close()


def test_held_actions_move_the_robot_as_recorded_ones_do(experiment: Path, fetch_episodes: list[Episode]) -> None:
    """With one control step a frame, the recorded actions are those of the frames."""
    robots = RobotVectorEnv(2, robot="fetch", experiment=experiment)
    chosen = [each for each in fetch_episodes if each.policy in ("expert", "random")][:2]
    robots.reset(options={"episodes": [each.id for each in chosen]})
    for step in range(6):
        robots.step(np.stack([each.actions[step] for each in chosen]))
    for row, each in enumerate(chosen):
        assert each.state is not None
        # Two control steps under their mean end near where each under its own ended, and not where it began.
        moved = np.linalg.norm(each.state[6, :3] - each.state[0, :3])
        assert np.linalg.norm(robots.states[row, :3] - each.state[6, :3]) < 0.2 * moved + 0.005
    robots.close()


def test_gymnasium_finds_nothing_to_complain_about(experiment: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options: Any = {"experiment": experiment, "normalize_actions": True, "render_mode": "rgb_array"}
        env = gymnasium.make("roboalign/Fetch-v0", **options)
        check_env(env.unwrapped)
        env.close()


def test_one_policy_runs_in_both(experiment: Path) -> None:
    robots = RobotVectorEnv(2, robot="fetch", experiment=experiment, reward="student", terminate_on_success=False)
    model = WorldModelVectorEnv(2, experiment=experiment, source="fetch", terminate_on_success=False)
    assert robots.observation_space == model.observation_space
    assert robots.action_space == model.action_space
    results = []
    for envs in (robots, model):
        observations, infos = envs.reset(seed=3)
        first = observations["image"]
        for _ in range(envs.horizon):
            action = np.tanh(observations["image"].mean((1, 2))[:, [0, 1, 2, 0]] - 100)
            observations, rewards, _, truncated, _ = envs.step(action)
        assert truncated.all()
        assert np.isfinite(rewards).all()
        results.append((first, infos["episode"].tolist()))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    robots.close()


def test_the_expert_succeeds_and_success_ends_the_episode(experiment: Path, fetch_episodes: list[Episode]) -> None:
    env = RobotEnv(robot="fetch", experiment=experiment, horizon=40)
    episode = next(each for each in fetch_episodes if each.task == "push")
    _, info = env.reset(options={"episode": episode.id})
    assert info["success"] is False
    terminated = truncated = False
    while not (terminated or truncated):
        simulator = env.vector.simulators[0]
        assert simulator is not None
        _, reward, terminated, truncated, info = env.step(simulator.expert())
        assert reward == info["success"] == terminated == (info["states"][SUCCESS] == 1)
    assert terminated
    env.close()


@pytest.mark.slow
def test_a_world_model_is_loaded_after_a_robot_has_rendered(experiment: Path) -> None:
    """In a process of its own, which has loaded nothing before: see the note in `roboalign.env.robots`."""
    code = (
        "import gymnasium, roboalign.env\n"
        f"folder = {str(experiment)!r}\n"
        "robot = gymnasium.make('roboalign/Fetch-v0', experiment=folder)\n"
        "robot.reset(seed=0)\n"
        "gymnasium.make('roboalign/WorldModel-v0', experiment=folder, source='fetch').reset(seed=0)\n"
        "robot.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_robot_cannot_do_is_said(experiment: Path, tmp_path: Path) -> None:
    robots = RobotVectorEnv(1, robot="fetch", experiment=experiment)
    options = {"images": np.zeros((1, 32, 32, 3), np.uint8), "instructions": ["a"]}
    wrong: Any = {"reward": "probe"}
    with pytest.raises(EnvError, match="cannot start from an image; give an episode"):
        robots.reset(options=options)
    with pytest.raises(EnvError, match="no source '' of the robot panda; it has none"):
        RobotVectorEnv(1, robot="panda", experiment=experiment)
    with pytest.raises(EnvError, match="no source 'arm' of the robot fetch; those are fetch"):
        RobotVectorEnv(1, robot="fetch", experiment=experiment, source="arm")
    with pytest.raises(EnvError, match="reward must be one of simulator, student"):
        RobotVectorEnv(1, robot="fetch", experiment=experiment, **wrong)


def test_a_spec_that_did_not_record_the_episodes_is_named(tmp_path: Path, fetch_episodes: list[Episode]) -> None:
    write_experiment(tmp_path, fetch_episodes, models=False)
    write_sources(tmp_path, FETCH | {"seed": 5, "episodes": 4})
    robots = RobotVectorEnv(1, robot="fetch", experiment=tmp_path)
    with pytest.raises(EnvError, match=r"000007 was not recorded by build/spec/sources.yaml as it is now; run `dvc"):
        robots.reset(options={"episodes": ["fetch/000007"]})
