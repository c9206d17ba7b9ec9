"""Scores of clip sets and of the bench are the same, byte for byte, however many workers compute them."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from roboalign import checkpoint
from roboalign.bench.dataset import score_pairs
from roboalign.bench.pairs import Bench, write_pairs
from roboalign.evaluation.clips import OTHER_ACTIONS, read_clip_sets
from roboalign.evaluation.scoring import ScoredSet, best_of_n, score
from roboalign.evaluation.spec import ComparisonSpec
from roboalign.executor import Result, Work, Workers
from roboalign.io import write_json
from roboalign.pipeline import bench_scores, evaluation
from roboalign.pipeline.bench_scores import BenchScorer
from roboalign.pipeline.evaluation import TRUTH, ScoringInputs, best_of_comparisons, score_clip_sets
from roboalign.pipeline.judges import has_request_limits, load_judge
from roboalign.pipeline.scorers import GoldFiles
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.pipeline.students import load_student_to
from roboalign.reward.dimensions import mean_scores
from roboalign.reward.rubric import calibrate, limits_to_json
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus, EpisodeWriter
from roboalign.types import Episode
from tests.experiment_files import write_experiment
from tests.reward.reward_fakes import toy_bench, toy_judge


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, toy_episodes: list[Episode], six: RewardSpec) -> Path:
    """An experiment with a bench, scorers and clip sets."""
    folder = tmp_path_factory.mktemp("experiment")
    write_experiment(folder, toy_episodes)
    toy_judge(toy_episodes[:12], six).save(folder / "artifacts/judge/model.safetensors", "x")
    bench = toy_bench(toy_episodes, six, folder / "artifacts/bench")
    write_pairs(folder / "artifacts/bench/pairs.parquet", bench.pairs, six.names)
    states = [(e.state, e.policy == "expert") for e in toy_episodes if e.state is not None]
    limits = limits_to_json({"toy": calibrate(states, six.calibration)})
    write_json(folder / "artifacts/bench/probed_limits/gold.json", limits)
    write_clips(folder / "artifacts/rollout", toy_episodes[15:])
    return folder


def write_clips(folder: Path, episodes: list[Episode]) -> None:
    """Two sets of darkened clips of each episode, the candidates of two samples, and rollouts under other actions."""
    index = []
    for number, (name, samples) in enumerate({"swr.greedy": 1, "supervised.best_of_2": 2, OTHER_ACTIONS: 1}.items()):
        keys = [(episode, sample) for episode in episodes for sample in range(samples)]
        with EpisodeWriter(folder / name, fps=5) as writer:
            for episode, sample in keys:
                frames, actions = episode.frames[:7] // np.uint8(1 + number + sample), episode.actions[:7]
                key = f"{episode.id}#{sample}"
                writer.add(replace(episode, id=key, frames=frames, actions=actions, state=None, keypoints=None))
        index.append({
            "name": name, "model": "supervised", "decoding": "swr", "sampling": "greedy", "folder": name,
            "episodes": [episode.id for episode, _ in keys], "samples": [sample for _, sample in keys],
        })  # fmt: skip
    write_json(folder / "index.json", index)


def scoring_inputs(root: Path, reward: RewardSpec) -> ScoringInputs:
    artifacts = root / "artifacts"
    return ScoringInputs(
        artifacts / "sources/index.json", artifacts / "rollout",
        (("student", artifacts / "student/model.safetensors"), ("judge", artifacts / "judge/model.safetensors")),
        GoldFiles(artifacts / "probe/gold/model.safetensors", artifacts / "bench/probed_limits/gold.json"),
        reward.model_dump_json(), 2, root,
    )  # fmt: skip


def to_bytes(scored: dict[str, ScoredSet]) -> dict[tuple[str, str], bytes]:
    """The scores of each set by each scorer, and its outcomes."""
    found = {(name, scorer): values.tobytes() for name, one in scored.items() for scorer, values in one.scores.items()}
    return found | {
        (n, "outcomes"): one.outcomes.values.tobytes() for n, one in scored.items() if one.outcomes is not None
    }


def test_any_number_of_workers_scores_clip_sets_to_the_same_bytes(
    root: Path, six: RewardSpec, alone: Workers, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MIN_CLIPS", 0)
    inputs, lines = scoring_inputs(root, six), list[str]()
    expected = score_clip_sets(inputs, ModelExecutor(alone), lines.append)
    found = score_clip_sets(inputs, ModelExecutor(workers), lines.append)
    assert to_bytes(found) == to_bytes(expected)
    assert [*found] == [TRUTH, "swr.greedy", "supervised.best_of_2"]
    assert lines[:3] == lines[3:]
    assert lines[2] == "scored supervised.best_of_2, 2 of 2 clip sets"
    for name, one in found.items():
        assert one.episodes == ("toy/000015", "toy/000016", "toy/000017"), name
        assert set(one.scores) == {
            f"{scorer}{kind}" for scorer in ("student", "judge", "gold") for kind in ("", "_faithful")
        }
        assert one.outcomes is not None
        assert one.outcomes.episodes == one.episodes
    assert not np.array_equal(found[TRUTH].scores["student"], found["swr.greedy"].scores["student"])
    # Two candidates of each episode, of which the better one is kept.
    student = load_student_to(root / "artifacts/student/model.safetensors", torch.device("cpu"))
    candidates = read_clip_sets(root / "artifacts/rollout")["supervised.best_of_2"]
    every = score("supervised.best_of_2", candidates.clips(), {"student": partial(mean_scores, student)}, 2)
    assert found["supervised.best_of_2"].samples == best_of_n(every, "student_faithful").samples


def test_best_of_n_is_compared_with_single_samples_and_with_the_other_model(tmp_path: Path, six: RewardSpec) -> None:
    fields = {"decoding": "swr", "sampling": "sampled", "folder": "x", "episodes": [], "samples": []}
    models = ("supervised", "aligned")
    index = [
        {"name": f"{model}.{last}", "model": model, **fields}
        for model in models
        for last in ("swr.sampled", "best_of_2")
    ]
    write_json(tmp_path / "artifacts/rollout/index.json", index)
    assert best_of_comparisons(scoring_inputs(tmp_path, six)) == [
        ComparisonSpec(model=model, against=against)
        for model, against in (
            ("supervised.best_of_2", "supervised.swr.sampled"),
            ("aligned.best_of_2", "aligned.swr.sampled"),
            ("aligned.best_of_2", "supervised.best_of_2"),
            ("aligned.best_of_2", "supervised.swr.sampled"),
        )
    ]


def test_any_number_of_workers_scores_the_bench_to_the_same_bytes(
    root: Path, six: RewardSpec, alone: Workers, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_scores, "MIN_CLIPS", 0)
    monkeypatch.setattr(bench_scores, "PIECE", 9)
    artifacts = root / "artifacts"
    bench = Bench.open(artifacts / "bench", Corpus.open(artifacts / "sources/index.json"), six.names)
    rows = list(reversed(range(len(bench))))
    for name, load in (("judge", load_judge), ("student", load_student_to)):
        file = artifacts / name / "model.safetensors"
        scorer = BenchScorer(artifacts / "sources/index.json", artifacts / "bench", six.names, file, load)
        expected = scorer.score(rows, ModelExecutor(alone))
        assert scorer.score(rows, ModelExecutor(workers)).tobytes() == expected.tobytes()
        together = score_pairs(load(file, torch.device("cpu")).sample, bench, rows)
        np.testing.assert_allclose(expected, together, atol=1e-4)


def test_few_clips_and_limited_requests_are_left_to_one_process(root: Path, six: RewardSpec, tmp_path: Path) -> None:
    class NoWorkers(Workers):
        def map(self, function: Callable[[Work], Result], work: Sequence[Work]) -> Generator[Result]:
            raise AssertionError("a worker was asked")

        def close(self) -> None: ...

    assert len(score_clip_sets(scoring_inputs(root, six), ModelExecutor(NoWorkers()), lambda line: None)) == 3
    student = root / "artifacts/student/model.safetensors"
    assert not has_request_limits(student)
    checkpoint.save(tmp_path / "api.safetensors", {}, spec={"kind": "openai_api"}, provenance="x")
    assert has_request_limits(tmp_path / "api.safetensors")
