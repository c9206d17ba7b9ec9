"""The world model's environments: Gymnasium's contract, the rollout stage's bytes, rewards, resets and branches."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RecordVideo
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from numpy.typing import NDArray

from roboalign.env import EnvError, WorldModelEnv, WorldModelVectorEnv
from roboalign.env.scoring import load_clip_scorer
from roboalign.errors import StageError
from roboalign.pipeline.video_models import VideoModels
from roboalign.probe.model import load_probe
from roboalign.rollout.evaluation_episodes import EvaluationEpisodes
from roboalign.rollout.rollout import rollout
from roboalign.rollout.spec import ArSpec, EntropySwrSpec, FixedDecodingSpec, KvWindowSpec, SwrSpec
from roboalign.types import Episode
from roboalign.video import video_to_frames
from roboalign.world_model.sampler import Sampler

ID = "roboalign/WorldModel-v0"
HORIZON = 8


def make(experiment: Path, count: int = 2, **options: Any) -> WorldModelVectorEnv:
    """An environment that ends at the horizon, unless `options` say otherwise."""
    given: Any = {"terminate_on_success": False, "reward": "none", "probe": None} | options
    return WorldModelVectorEnv(count, experiment=experiment, source="fetch", **given)


def random_actions(envs: WorldModelVectorEnv, steps: int, seed: int = 0) -> NDArray[np.float32]:
    """Actions (steps, N, A), some of them beyond the measured range."""
    shape = steps, envs.num_envs, envs.scale.width
    return np.random.default_rng(seed).uniform(-1.2, 1.2, shape).astype(np.float32)


def play(envs: WorldModelVectorEnv, actions: NDArray[np.float32]) -> list[Any]:
    return [envs.step(row) for row in actions]


@pytest.mark.parametrize("reward", ["student", "probe"])
def test_gymnasium_finds_nothing_to_complain_about(experiment: Path, reward: str) -> None:
    options: Any = {"experiment": experiment, "source": "fetch", "reward": reward, "render_mode": "rgb_array"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(ID, normalize_actions=True, **options)
        check_env(env.unwrapped)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gymnasium.make(ID, **options).unwrapped)
    # Units of a source are what they are: Gymnasium recommends the range that `normalize_actions` gives.
    assert {"symmetric and normalized" in str(each.message) for each in caught} == {True}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "decoding", [ArSpec(), SwrSpec(window=3), KvWindowSpec(frames=3), EntropySwrSpec(shortest=2, longest=4, rise=1.01)]
)
def test_the_bytes_are_those_of_the_rollout_stage(
    experiment: Path, decoding: FixedDecodingSpec, temperature: float
) -> None:
    parts = VideoModels.in_folder(experiment, "cpu")
    test = parts.corpus().filter(split="test")
    episodes = EvaluationEpisodes.of(test, HORIZON, 2, 0, torch.device("cpu"))
    sampler = Sampler(parts.world_model("aligned"), temperature=temperature)
    expected = video_to_frames(rollout(decoding, parts.tokenizer(), sampler, episodes.prompt).frames)
    envs = make(experiment, decoding=decoding, temperature=temperature)
    ids = [info.id for info in episodes.infos]
    envs.reset(seed=episodes.prompt.seeds.tolist(), options={"episodes": ids})
    play(envs, np.stack([test.read(number).actions[:HORIZON] for number in episodes.numbers], 1))
    np.testing.assert_array_equal(envs.clips, expected)
    assert envs.truncated.all()


def test_a_copy_is_the_same_alone_and_among_others_and_again(experiment: Path) -> None:
    envs, options = make(experiment, 3, temperature=1.0, reward="student", probe="gold"), {"temperature": 1.0}
    actions, runs = random_actions(envs, HORIZON), []
    for _ in range(2):
        first = envs.reset(seed=5)
        runs.append([first, *play(envs, actions)])
    for one, two in zip(runs[0], runs[1], strict=True):
        assert gymnasium.utils.env_checker.data_equivalence(list(one), list(two), exact=True)
    alone = WorldModelEnv(experiment=experiment, source="fetch", terminate_on_success=False, **options)
    observation, info = alone.reset(seed=6)
    assert info["episode"] == runs[0][0][1]["episode"][1]
    for step in range(HORIZON):
        observation, reward, terminated, truncated, info = alone.step(actions[step, 1])
        expected = runs[0][step + 1]
        np.testing.assert_array_equal(observation["image"], expected[0]["image"][1])
        assert (terminated, truncated) == (expected[2][1], expected[3][1])
        np.testing.assert_allclose(reward, expected[1][1], atol=1e-4)
        np.testing.assert_allclose(info["states"], expected[4]["states"][1], atol=1e-4)


def test_spaces_hold_what_comes_out(experiment: Path, fetch_episodes: list[Episode]) -> None:
    envs = gymnasium.make_vec(ID, 2, experiment=experiment, source="fetch")
    assert isinstance(envs, WorldModelVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    test = [each for each in fetch_episodes if each.split == "test"]
    observations, infos = envs.reset(options={"episodes": [each.id for each in test]})
    assert observations in envs.observation_space
    assert observations["instruction"] == tuple(each.instruction for each in test)
    np.testing.assert_array_equal(observations["image"], [each.frames[0] for each in test])
    assert infos["task"].tolist() == [each.task for each in test]
    observations, *_ = envs.step(envs.action_space.sample())
    assert observations in envs.observation_space


def test_without_options_held_out_episodes_are_drawn_by_the_seed(experiment: Path) -> None:
    envs = make(experiment, 12)
    drawn = [envs.reset(seed=seed)[1]["episode"].tolist() for seed in (0, 0, 50)]
    assert drawn[0] == drawn[1] != drawn[2]
    test = {info.id for info in envs.episodes.corpus.infos if info.split == "test"}
    assert set(drawn[0]) == test


def test_the_reward_at_the_end_is_the_students_score_of_the_clip(
    experiment: Path, fetch_episodes: list[Episode]
) -> None:
    envs = make(experiment, reward="student")
    envs.reset(seed=0)
    actions = random_actions(envs, HORIZON)
    rewards = np.stack([step[1] for step in play(envs, actions)])
    assert (rewards[:-1] == 0).all()
    scorer = load_clip_scorer(experiment, "student", "faithful", envs.simulation.width, "cpu")
    normalized = np.stack([envs.scale.to_model(row) for row in actions], 1)
    expected = scorer.score(envs.clips, envs.instructions, normalized)
    assert expected.std() > 0
    np.testing.assert_allclose(rewards[-1], expected, atol=1e-5)
    np.testing.assert_allclose(envs.score(), expected, atol=1e-5)


def test_success_is_what_the_probe_perceives_and_ends_the_episode(experiment: Path) -> None:
    envs = make(experiment, 3, reward="probe", probe="gold")
    envs.reset(seed=0)
    steps = play(envs, random_actions(envs, HORIZON))
    probe = load_probe(experiment / "artifacts/probe/gold/model.safetensors")
    for number, (_, rewards, terminated, _, infos) in enumerate(steps, 1):
        for row, scene in enumerate(envs.scenes):
            assert scene is not None
            assert scene.task is not None
            states = probe.states("fetch", scene.task, envs.clips[row : row + 1, : number + 1])[0, -1]
            np.testing.assert_allclose(infos["states"][row], states, rtol=1e-4, atol=1e-5)
        assert infos["success"].tolist() == (infos["states"][:, 13] > 0.5).tolist() == (rewards == 1).tolist()
        assert not terminated.any()
    # A copy ends once its probability is above the threshold: which step that is follows from the run above.
    ending = make(experiment, 3, reward="probe", probe="gold", terminate_on_success=True)
    ending.reset(seed=0)
    shown = np.stack([step[4]["success"] for step in steps])
    ended = np.stack([step[2] for step in play(ending, random_actions(envs, HORIZON))])
    np.testing.assert_array_equal(ended, np.logical_or.accumulate(shown))


def test_a_copy_that_ended_stays_and_is_reset_alone(experiment: Path) -> None:
    envs = make(experiment, 3, temperature=1.0, horizon=6)
    actions = random_actions(envs, 12)
    envs.reset(seed=0)
    play(envs, actions[:2])
    envs.reset(seed=[None, 7, None], options={"reset_mask": np.array([False, True, False])})
    assert envs.steps.tolist() == [2, 0, 2]
    play(envs, actions[2:6])
    assert envs.truncated.tolist() == [True, False, True]
    before = envs.clips.copy()
    held = actions[6].copy()
    held[[0, 2]] = np.nan
    observations, rewards, _, truncated, _ = envs.step(held)
    assert truncated.tolist() == [True, False, True]
    assert rewards.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(observations["image"][[0, 2]], before[[0, 2], -1])
    # Rows are what they are alone: one that was never interrupted, and one that began later.
    alone = make(experiment, 1, temperature=1.0, horizon=6)
    for row, seed, start, steps in ((0, 0, 0, 6), (1, 7, 2, 5)):
        alone.reset(seed=seed)
        play(alone, actions[start : start + steps, row : row + 1])
        np.testing.assert_array_equal(alone.clips[0, : steps + 1], envs.clips[row, : steps + 1])


def test_branches_go_on_from_a_copy_and_leave_it_alone(experiment: Path) -> None:
    envs = make(experiment, 2, temperature=1.0, reward="student", probe="gold")
    actions = random_actions(envs, HORIZON)
    envs.reset(seed=0)
    play(envs, actions[:4])
    futures = envs.branch([1, 0, 1], seeds=[1, 0, 99])
    assert futures.num_envs == 3
    later = [futures.step(row[[1, 0, 1]]) for row in actions[4:]]
    mine = play(envs, actions[4:])
    for one, two in zip(mine, later, strict=True):
        np.testing.assert_array_equal(one[0]["image"][[1, 0]], two[0]["image"][:2])
        np.testing.assert_allclose(one[4]["states"][[1, 0]], two[4]["states"][:2], atol=1e-4)
    np.testing.assert_allclose(mine[-1][1][[1, 0]], later[-1][1][:2], atol=1e-4)
    assert not np.array_equal(futures.clips[0], futures.clips[2])
    single = WorldModelEnv(experiment=experiment, source="fetch", reward="none", probe=None)
    single.reset(seed=0)
    assert single.branch(4).num_envs == 4


def test_an_image_of_ones_own_starts_as_the_episode_does(experiment: Path, fetch_episodes: list[Episode]) -> None:
    envs = make(experiment, probe="gold")
    actions = random_actions(envs, 3)
    test = [each for each in fetch_episodes if each.split == "test"]
    envs.reset(seed=0, options={"episodes": [each.id for each in test]})
    play(envs, actions)
    expected = envs.clips[:, :4].copy()
    images, texts = np.stack([each.frames[0] for each in test]), ["do it", "do it not"]
    options = {"images": images, "instructions": texts, "tasks": [each.task for each in test]}
    observations, infos = envs.reset(seed=0, options=options)
    assert observations["instruction"] == tuple(texts)
    assert infos["episode"].tolist() == [None, None]
    play(envs, actions)
    np.testing.assert_array_equal(envs.clips[:, :4], expected)
    images[:] = 0
    assert envs.clips[:, 0].any()


def test_success_is_unknown_in_a_scene_that_the_probe_has_never_seen(experiment: Path) -> None:
    env = WorldModelEnv(experiment=experiment, source="fetch", reward="probe")
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    _, info = env.reset(options={"image": noise, "instruction": "do it"})
    assert "success" not in info
    assert "states" not in info
    _, reward, terminated, _, info = env.step(np.zeros(4))
    assert (reward, terminated) == (0, False)
    assert "success" not in info


def test_rendering_shows_the_frame(experiment: Path) -> None:
    env = gymnasium.make(ID, experiment=experiment, source="fetch", reward="none", render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), observation["image"])
    assert env.metadata["render_fps"] == 10


@pytest.mark.skipif(importlib.util.find_spec("moviepy") is None, reason="Gymnasium's RecordVideo needs moviepy")
def test_gymnasium_records_a_video(experiment: Path, tmp_path: Path) -> None:
    env = gymnasium.make(ID, experiment=experiment, source="fetch", reward="none", render_mode="rgb_array")
    recorded = RecordVideo(env, str(tmp_path), episode_trigger=lambda _: True)
    recorded.reset(seed=0)
    for _ in range(HORIZON):
        recorded.step(recorded.action_space.sample())
    recorded.close()
    assert [path.stat().st_size > 0 for path in tmp_path.glob("*.mp4")] == [True]


def test_gymnasiums_vector_wrappers_take_it(experiment: Path) -> None:
    envs = RecordEpisodeStatistics(make(experiment, reward="student"))
    envs.reset(seed=0)
    for _ in range(HORIZON):
        _, rewards, _, _, infos = envs.step(envs.action_space.sample())
    np.testing.assert_allclose(infos["episode"]["r"], rewards)
    assert infos["episode"]["l"].tolist() == [HORIZON, HORIZON]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "toy"}, "no source 'toy'; it has fetch"),
        ({"reward": "gold"}, "reward must be one of student, judge, probe, none"),
        ({"probe": "eye"}, "probe must be None or one of"),
        ({"probe": None, "reward": "probe"}, "reward 'probe' needs a probe"),
        ({"model": "best"}, "model must be one of supervised, aligned"),
        ({"horizon": 0}, "horizon must be a whole number above 0"),
        ({"render_mode": "human"}, "render_mode must be None or rgb_array"),
        ({"num_envs": 0}, "num_envs must be a whole number above 0"),
        ({"decoding": "swr6"}, "rollout.decodings has no 'swr6'"),
        ({"decoding": "true_refresh"}, "needs true future frames"),
        ({"variant": "kind"}, "variant must be one of absolute, faithful"),
    ],
)
def test_wrong_arguments_are_answered(experiment: Path, options: Any, message: str) -> None:
    given: Any = {"experiment": experiment, "source": "fetch"} | options
    with pytest.raises(ValueError, match=message):
        WorldModelVectorEnv(**given)


def test_a_folder_without_an_experiment_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"artifacts/sources/index.json is missing; run `dvc repro` or `dvc pull`"):
        gymnasium.make(f"roboalign.env:{ID}", experiment=tmp_path, source="fetch")


def test_score_and_branch_say_what_they_need(experiment: Path) -> None:
    envs = make(experiment)
    with pytest.raises(EnvError, match="call reset first"):
        envs.step(np.zeros((2, 4)))
    envs.reset(seed=0)
    with pytest.raises(EnvError, match="reward 'none' does not score clips"):
        envs.score()
    for rows in ([2], [-1], [], [0.5]):
        with pytest.raises(EnvError, match="branch takes"):
            envs.branch(rows)
    with pytest.raises(EnvError, match="1 copies need one seed"):
        envs.branch([0], seeds=[1, 2])
