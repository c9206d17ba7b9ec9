"""Recording, without a simulator: a point robot stands in for one."""

from collections import Counter
from typing import get_args

import numpy as np
import pytest

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators.record import ATTEMPTS, Assignment, Noise, apportion, assign, record
from roboalign.sources.simulators.simulator import Vector
from roboalign.sources.simulators.spec import FetchSpec, ImageSpec, MetaworldSpec, PolicyMixSpec
from roboalign.types import Float32, Policy, UInt8


class Point:
    """A gripper that moves by its action and carries the object along; solved once at the goal."""

    rate = 10.0

    def __init__(self, solved: int = 0) -> None:
        self.seeds: list[int] = []
        self.solved = solved
        """How many scenes start solved."""

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)
        rng = np.random.default_rng(seed)
        self.gripper, self.goal = rng.uniform(0, 1, 3), rng.uniform(2, 3, 3)
        if len(self.seeds) <= self.solved:
            self.goal = self.gripper.copy()
        self.aim = self.goal

    def set_wrong_goal(self, rng: np.random.Generator) -> None:
        self.aim = self.goal - rng.uniform(1, 2, 3)

    def expert(self) -> Vector:
        return np.append(np.clip(self.aim - self.gripper, -1, 1), 0.0)

    def approach(self, target: Vector, opening: float) -> Vector:
        return np.append(np.clip(target - self.gripper, -1, 1), opening)

    def step(self, action: Vector) -> None:
        self.gripper = self.gripper + 0.3 * action[:3]

    def frame(self) -> UInt8:
        return np.full((16, 16, 3), int(self.gripper[0] * 20) % 256, np.uint8)

    def state(self) -> Float32:
        success = np.linalg.norm(self.gripper - self.goal) < 0.2
        return np.asarray([*self.gripper, *self.gripper, *self.goal, 1, 0, 0, 0, success], np.float32)

    def project(self, points: Vector) -> Float32:
        return points[:, :2].astype(np.float32)

    def close(self) -> None: ...


SPEC = FetchSpec(kind="fetch", length=12, stride=3, image=ImageSpec(height=16, width=16))


def job(policy: Policy, number: int = 0) -> Assignment:
    return Assignment(number, "push", "push it", policy, "train")


def test_an_episode_has_one_row_of_everything_for_each_frame() -> None:
    episode = record(SPEC, "toy", job("expert"), Point())
    assert episode.frames.shape == (12, 16, 16, 3)
    assert episode.actions.shape == (12, 4)
    assert episode.state is not None
    assert episode.state.shape == (12, 14)
    assert episode.keypoints is not None
    assert episode.keypoints.shape == (12, 6)
    assert episode.success


def test_the_action_of_a_frame_is_the_mean_over_its_steps() -> None:
    episode = record(SPEC, "toy", job("noisy_expert"), Point())
    assert episode.state is not None
    moved = np.diff(episode.state[:, :3], axis=0)
    np.testing.assert_allclose(moved, 0.3 * SPEC.stride * episode.actions[:-1, :3], atol=1e-5)


def test_experts_succeed_and_misled_or_random_policies_fail() -> None:
    outcome = {p: [record(SPEC, "toy", job(p, n), Point()).success for n in range(5)] for p in get_args(Policy)[:4]}
    assert all(outcome["expert"])
    assert not any(outcome["wrong_goal"])
    assert not any(outcome["random"])


def test_an_episode_depends_on_its_number_alone() -> None:
    point = Point()
    record(SPEC, "toy", job("random", 3), point)
    second, alone = record(SPEC, "toy", job("random", 4), point), record(SPEC, "toy", job("random", 4), Point())
    np.testing.assert_array_equal(second.actions, alone.actions)
    assert second.scene == alone.scene != record(SPEC, "toy", job("random", 3), point).scene


def test_scenes_that_start_solved_are_left_out() -> None:
    point = Point(solved=2)
    episode = record(SPEC, "toy", job("expert"), point)
    assert len(point.seeds) == 3
    assert episode.state is not None
    assert episode.state[0, -1] == 0
    with pytest.raises(SourceError, match="start solved"):
        record(SPEC, "toy", job("expert"), Point(solved=ATTEMPTS))


def test_a_recorded_robots_policy_cannot_act() -> None:
    with pytest.raises(SourceError, match="cannot act"):
        record(SPEC, "toy", job("unknown"), Point())


def test_shares_are_kept_within_each_task_and_split() -> None:
    plan = assign(MetaworldSpec(kind="metaworld", episodes=80))
    assert [a.number for a in plan] == list(range(80))
    assert Counter(a.split for a in plan) == {"train": 64, "validation": 4, "test": 12}
    assert set(Counter(a.task for a in plan).values()) == {20}
    for task in {a.task for a in plan}:
        policies = Counter(a.policy for a in plan if a.task == task)
        assert policies == {"expert": 6, "noisy_expert": 7, "wrong_goal": 2, "random": 5}
    tested = Counter(a.policy for a in plan if a.split == "test")
    assert all(tested[policy] >= 1 for policy in ("expert", "noisy_expert", "wrong_goal", "random"))
    assert {a.task for a in plan if a.split == "test"} == {a.task for a in plan}


def test_few_episodes_still_have_a_split_to_train_on() -> None:
    plan = assign(FetchSpec(kind="fetch", episodes=6))
    assert Counter(a.split for a in plan) == {"train": 5, "test": 1}


def test_a_policy_can_have_all_episodes() -> None:
    mix = PolicyMixSpec(expert=1.0, noisy_expert=0.0, wrong_goal=0.0, random=0.0)
    assert {a.policy for a in assign(FetchSpec(kind="fetch", episodes=5, policies=mix))} == {"expert"}


def test_parts_add_up() -> None:
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(80, [0.8, 0.05, 0.15]) == [64, 4, 12]
    assert apportion(0, [1, 2]) == [0, 0]
    for count in range(40):
        assert sum(apportion(count, [0.3, 0.35, 0.1, 0.25])) == count


def test_noise_has_its_deviation_and_is_smooth() -> None:
    noise = Noise(np.random.default_rng(0), 2, 0.5, 0.85)
    values = np.stack([noise() for _ in range(20_000)])
    assert values.std() == pytest.approx(0.5, rel=0.05)
    assert np.corrcoef(values[1:, 0], values[:-1, 0])[0, 1] == pytest.approx(0.85, abs=0.02)
