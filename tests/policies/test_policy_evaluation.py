"""The evaluation of policies in environments of dots: closed loops, replays, batches, and going on after a kill."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policy_fakes import DotsEnv

from roboalign.pipeline.policies import SuccessScorers, calibrate_servoing, other_instructions
from roboalign.pipeline.policy_evaluation import PolicyEvaluation
from roboalign.policies.build import PolicyParts
from roboalign.policies.outputs import episode_rows, rate_rows
from roboalign.policies.results import OTHER_FRAMES, PolicyMetrics, PolicyResults
from roboalign.policies.spec import PoliciesSpec, VisualServoingSpec
from roboalign.policies.visual_servoing import ServoingParts
from roboalign.probe.model import Probe
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run
from roboalign.sources.simulators.pusher import DisplacementController
from roboalign.sources.simulators.spec import FetchSpec, JacoSpec, SimulatedRobotSpec
from roboalign.store import Corpus
from roboalign.types import Episode
from tests.reward.reward_fakes import toy_eyes

REWARD = RewardSpec.model_validate(
    {"dimensions": {"success": {"max_score": 1, "group": "task_alignment", "rubric": "Done.",
                                "labeller": {"kind": "manipulation"}}}}
)  # fmt: skip
SPEC = PoliciesSpec.model_validate(
    {
        "policies": {
            "forward": {"kind": "constant", "action": 1.0},
            "idle": {"kind": "constant", "action": 0.0},
            "shaky": {"kind": "random", "std": 1.0},
        },
        "episodes": 3,
        "horizon": 5,
        "batch_size": 2,
        "draws": 100,
        "clips": 1,
        "compared_decodings": {"ar": {"kind": "ar"}},
    }
)


class NoScores(SuccessScorers):
    """Scores every clip by the share of bright pixels."""

    def __call__(self, instructions: Any, frames: Any, actions: Any) -> dict[str, Any]:
        assert frames.shape[1] == actions.shape[1] + 1
        assert np.abs(actions).max() <= 1
        return {"student": frames.mean((1, 2, 3, 4), dtype=np.float32) / 255}


def evaluation(
    folder: Path,
    episodes: list[Episode],
    made: list[str],
    spec: PoliciesSpec = SPEC,
    covers: Any = lambda source, task: True,
    robots: Mapping[str, SimulatedRobotSpec] = {"toy": FetchSpec(kind="fetch")},
) -> PolicyEvaluation:
    """An evaluation whose world models move the dots at half the simulator's speed; `made` notes the environments."""

    def make_env(world: str, source: str, copies: int) -> DotsEnv:
        made.append(f"{world} {copies}")
        return DotsEnv(copies, speed=4.0 if world == "simulator" else 3.0, width=4)

    def absent(*arguments: Any) -> Any:
        raise AssertionError("no network is needed")

    run = Run("policies", "", {}, (), (), folder)
    corpus = Corpus.of(episodes)

    @cache
    def eyes() -> Probe:
        return toy_eyes(episodes)

    def servoing(policy: Any, source: str) -> ServoingParts:
        controller = DisplacementController(scale=0.4, behind=0.05)
        return ServoingParts(eyes(), controller, calibrate_servoing(corpus, source))

    parts = PolicyParts(absent, absent, servoing, 10.0, other_instructions(corpus))
    score = NoScores({}, REWARD, torch.device("cpu"))
    return PolicyEvaluation(run, spec, corpus, robots, parts, make_env, score, covers)


@pytest.fixture
def results(toy_episodes: list[Episode], tmp_path: Path) -> PolicyResults:
    return evaluation(tmp_path, toy_episodes, []).evaluate()


def test_every_policy_acts_in_every_world(results: PolicyResults) -> None:
    worlds = {
        "simulator",
        "supervised",
        "aligned",
        "supervised.replay",
        "aligned.replay",
        OTHER_FRAMES,
        "supervised.ar",
    }
    assert set(results.worlds) == worlds
    for world in worlds:
        assert set(results.worlds[world]) == set(SPEC.policies)
    forward = results.worlds["simulator"]["forward"]["toy"]
    assert forward.success.shape == (3, 5)
    assert forward.clips is not None
    assert forward.clips.shape == (1, 6, 32, 32, 3)
    assert (forward.success[:, -1] == 1).all()
    assert (results.worlds["supervised"]["idle"]["toy"].success == 0).all()
    assert results.worlds["supervised"]["forward"]["toy"].scores["student"].shape == (3,)


def test_replays_take_the_actions_of_the_simulator(results: PolicyResults) -> None:
    # The random policy draws the same actions in every world, because it has the same seeds and sees no image.
    for model in ("supervised", "aligned"):
        closed, replayed = (results.worlds[world]["shaky"]["toy"] for world in (model, f"{model}.replay"))
        np.testing.assert_array_equal(closed.success, replayed.success)


def test_a_killed_evaluation_goes_on_where_it_was(toy_episodes: list[Episode], tmp_path: Path) -> None:
    first, made = evaluation(tmp_path, toy_episodes, []), list[str]()
    whole = PolicyMetrics(first.evaluate()).json()
    assert PolicyMetrics(evaluation(tmp_path, toy_episodes, made).evaluate()).json() == whole
    assert made == []


def test_batches_do_not_change_the_results(toy_episodes: list[Episode], tmp_path: Path) -> None:
    made: list[str] = []
    small = evaluation(tmp_path / "a", toy_episodes, made).evaluate()
    assert "supervised 2" in made
    large = evaluation(tmp_path / "b", toy_episodes, [], SPEC.model_copy(update={"batch_size": 8})).evaluate()
    for world, policies in small.worlds.items():
        for policy, sources in policies.items():
            np.testing.assert_array_equal(sources["toy"].success, large.worlds[world][policy]["toy"].success)


def test_the_cloning_error_ranks_policies_on_demonstrations(results: PolicyResults) -> None:
    assert set(results.cloning_error) <= set(SPEC.policies)
    for errors in results.cloning_error.values():
        assert 0 < errors["toy"] < 2


def test_a_source_that_cannot_be_judged_is_left_out(
    toy_episodes: list[Episode], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    results = evaluation(tmp_path, toy_episodes, made, covers=lambda source, task: False).evaluate()
    assert results.episodes == {}
    assert made == []
    assert "toy is left out: 0 test episodes can be judged" in capsys.readouterr().err
    assert "agreement" not in PolicyMetrics(results).json()


def test_visual_servoing_is_left_out_for_sources_without_a_controller(
    toy_episodes: list[Episode], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [replace(each, id=each.id.replace("toy", "other"), source="other") for each in toy_episodes]
    spec = SPEC.model_copy(update={"policies": {**SPEC.policies, "servo": VisualServoingSpec(kind="visual_servoing")}})
    robots: dict[str, SimulatedRobotSpec] = {"toy": FetchSpec(kind="fetch"), "other": JacoSpec(kind="jaco")}
    results = evaluation(tmp_path, [*toy_episodes, *others], [], spec, robots=robots).evaluate()
    assert "servo is left out for other: jaco has no scripted controller" in capsys.readouterr().err
    metrics = PolicyMetrics(results).json()
    servo, idle = metrics["policies"]["servo"], metrics["policies"]["idle"]
    for world in ("simulator", "supervised", "aligned"):
        assert set(servo[world]["by_source"]) == {"toy"}
        assert set(idle[world]["by_source"]) == {"toy", "other"}
        assert (servo[world]["n"], idle[world]["n"]) == (3, 6)
    by_source = metrics["agreement"]["supervised"]["by_source"]
    assert by_source["toy"]["mmrv"]["n"] == 4
    assert by_source["other"]["mmrv"]["n"] == 3
    assert metrics["agreement"]["supervised"]["pooled"]["mmrv"]["n"] == 4
    assert {(row["policy"], row["source"]) for row in rate_rows(results) if row["policy"] == "servo"} == {
        ("servo", "toy")
    }
    assert {row["source"] for row in episode_rows(results) if row["policy"] == "servo"} == {"toy"}


def test_the_other_instruction_is_of_another_task(toy_episodes: list[Episode]) -> None:
    assert other_instructions(Corpus.of(toy_episodes)) == {}  # one task only
