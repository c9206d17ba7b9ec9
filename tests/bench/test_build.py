from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from roboalign.bench.build import Builder, all_limits, build, recorded_states, shares
from roboalign.bench.generate import generate, make
from roboalign.bench.measure import auc, degradation_effects, measure
from roboalign.bench.pairs import Bench, BenchError, read_pairs, write_pairs
from roboalign.bench.spec import BenchSpec
from roboalign.store import Corpus, EpisodeStore
from tests.conftest import toy_episode


@pytest.fixture(scope="module")
def folder(tmp_path_factory, builder, models, six) -> Path:
    path = tmp_path_factory.mktemp("bench")
    write_pairs(path / "pairs.parquet", build(builder, models, path / "generated", 10.0)["judge"], six.names)
    return path


@pytest.fixture(scope="module")
def bench(folder, corpus, six) -> Bench:
    return Bench.open(folder, corpus, six.names)


def test_the_same_bench_twice_byte_for_byte(folder, tmp_path, builder, models, six):
    write_pairs(tmp_path / "pairs.parquet", build(builder, models, tmp_path / "generated", 10.0)["judge"], six.names)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) > 3
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_counts_follow_the_spec(bench, small):
    assert len(bench) == small.pairs
    origins = [pair.origin for pair in bench.pairs]
    for origin, share in small.origins.model_dump().items():
        assert abs(origins.count(origin) / len(bench) - share) < 0.04, origin
    assert len(bench.where(split="train", hidden=True)) == 52


def test_no_pair_leaks_out_of_the_split_of_its_episodes(bench, corpus):
    split = {info.id: info.split for info in corpus.infos}
    scenes = {info.id: info.scene for info in corpus.infos}
    for pair in bench.pairs:
        assert pair.split == split[pair.episode]
        assert not pair.other or split[pair.other] == pair.split
    by_split = {name: {scenes[bench.pairs[n].episode] for n in bench.where(split=name)} for name in ("train", "test")}
    assert not by_split["train"] & by_split["test"]


def test_held_out_degradations_are_in_the_test_split_alone(bench, small):
    kinds = {name: {bench.pairs[n].degradation for n in bench.where(split=name)} for name in ("train", "validation")}
    assert not (kinds["train"] | kinds["validation"]) & set(small.held_out)
    assert {"shuffle", "flicker"} & kinds["train"]


def test_real_clips_have_full_marks_and_end_in_success(bench, toy_episodes):
    state = {episode.id: episode.state for episode in toy_episodes}
    real = [pair for pair in bench.pairs if pair.origin == "real"]
    assert real
    for pair in real:
        assert sum(pair.scores) == pytest.approx(10, abs=0.02)
        assert state[pair.episode][pair.stop - 1, -1] == 1


def test_clips_are_made_as_their_recipes_say(bench, corpus, toy_episodes):
    episodes = {episode.id: episode for episode in toy_episodes}
    for number, pair in enumerate(bench.pairs):
        frames = bench.frames(number)
        assert np.array_equal(frames[0], episodes[pair.episode].frames[pair.start])
        if pair.origin in ("real", "policy"):
            assert np.array_equal(frames, episodes[pair.episode].frames[pair.start : pair.stop])
        if pair.origin == "generated":
            assert len(frames) == 5
            assert pair.provenance == "distance_rule"


def test_keypoints_follow_the_order_of_the_frames(bench, toy_episodes):
    episodes = {episode.id: episode for episode in toy_episodes}
    for number, pair in enumerate(bench.pairs):
        points, own = bench.keypoints(number), episodes[pair.episode].keypoints[pair.start : pair.stop]
        assert len(points) == len(bench.frames(number))
        if pair.origin == "generated":
            assert np.isnan(points).all()
            continue
        assert np.array_equal(points[0], own[0])
        if pair.degradation == "reversal":
            assert np.array_equal(points[1:], own[1:][: len(points) - 1]) == (pair.severity * (len(own) - 1) < 1.5)
        if pair.degradation in ("", "blur", "flicker"):
            assert np.array_equal(points, own)
        if pair.degradation == "object_removed":
            assert np.isnan(points[:, 2]).sum() == round(pair.severity * (len(own) - 1))
        if pair.degradation == "object_teleported":
            assert np.array_equal(points[:, [0, 1, 4, 5]], own[:, [0, 1, 4, 5]])


def test_batches_do_not_change_generated_clips(bench, builder, models, tmp_path):
    rows = [replace(p, generated=-1, scores=(), faithful=()) for p in bench.pairs if p.origin == "generated"]
    wide = builder.spec.model_copy(update={"generated": builder.spec.generated.model_copy(update={"batch_size": 7})})
    again = generate(replace(builder, spec=wide), rows, models, tmp_path / "g", 10.0)["judge"]
    assert [p.scores for p in again] == [p.scores for p in bench.pairs if p.origin == "generated"]


def test_without_models_nothing_is_generated(builder, tmp_path):
    pairs = build(builder, {}, tmp_path / "generated", 10.0)["judge"]
    assert len(pairs) == builder.spec.pairs
    assert not (tmp_path / "generated").exists()
    assert all(pair.origin != "generated" for pair in pairs)


def test_an_instruction_is_swapped_for_one_of_another_task(six, small):
    push = [toy_episode(n) for n in range(9)]
    pull = [replace(toy_episode(n + 9), task="pull", instruction="pull the handle") for n in range(9)]
    corpus = Corpus.of([*push, *pull])
    states = recorded_states(corpus)
    swaps = [d for d in small.degradations if d.kind == "swapped_instruction"]
    spec = small.model_copy(update={"degradations": tuple(swaps), "held_out": ()})
    builder = Builder(corpus, spec, six, states, all_limits(corpus.infos, states, six))
    swapped = [pair for pair in build(builder, {}, Path("unused"), 10.0)["judge"] if pair.origin == "degraded"]
    assert swapped
    given = {episode.id: episode for episode in [*push, *pull]}
    for pair in swapped:
        assert (pair.instruction == "pull the handle") == (given[pair.episode].task == "push")
        assert pair.scores[0] <= 0.6
        assert pair.scores[1] <= 0.4
        assert pair.provenance == "rubric_declared"


def test_metrics_count_everything_once(bench, builder, six):
    metrics = measure(builder, bench.pairs, degradation_effects(builder))
    assert metrics["different"] == len({pair.id for pair in bench.pairs}) > 60
    assert metrics["hidden_labels"] == metrics["by_degradation"]["swapped_actions"]
    assert metrics["effects"]["shuffle"]["temporal_consistency"]["holds"]
    assert metrics["pairs"] == 80 == sum(metrics["by_origin"].values())
    assert sum(metrics["by_degradation"].values()) == metrics["by_origin"]["degraded"]
    for name in six.names:
        assert sum(metrics["dimensions"][name]["histogram"]) == 80
    assert metrics["rubric"]["toy"]["expert_total"] == pytest.approx(10, abs=0.02)
    assert metrics["rubric"]["toy"]["manipulation_auc"] == 1
    assert metrics["rubric"]["toy"]["failure_total"] < 8


def test_a_source_without_states_gets_full_marks_or_declared_losses(six, small):
    episodes = [replace(toy_episode(n), policy="unknown", state=None) for n in range(6)]
    corpus = Corpus.of(episodes)
    states = recorded_states(corpus)
    builder = Builder(corpus, small, six, states, all_limits(corpus.infos, states, six))
    pairs = build(builder, {}, Path("unused"), 10.0)["judge"]
    assert {pair.provenance for pair in pairs} == {"full_marks", "full_marks_declared"}
    assert measure(builder, pairs, degradation_effects(builder))["effects"] == {}


def test_a_damaged_or_foreign_bench_is_named(folder, corpus, six, tmp_path):
    (tmp_path / "pairs.parquet").write_bytes(b"no parquet")
    with pytest.raises(BenchError, match="dvc repro bench"):
        read_pairs(tmp_path / "pairs.parquet", six.names)
    with pytest.raises(BenchError, match="score_physics_adherence"):
        read_pairs(folder / "pairs.parquet", six.names[:-1])
    with pytest.raises(BenchError, match="the sources lack"):
        Bench.open(folder, corpus.where(split="train"), six.names)


def test_generated_clips_are_in_a_store_that_says_so(folder):
    store = EpisodeStore(folder / "generated")
    assert all(info.success is None for info in store.infos)


def test_shares_add_up():
    counts = shares(10, {("a", ""): 1.0, ("b", ""): 1.0, ("c", ""): 1.0})
    assert sum(counts.values()) == 10
    assert max(counts.values()) - min(counts.values()) == 1
    assert auc([1, 2], [0, 1]) == 0.875


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": ["flicker"], "degradations": [{"kind": "blur", "lowers": {"temporal": 0.1}}]}, "has no flicker"),
        (
            {"held_out": ["blur"], "degradations": [{"kind": "blur", "lowers": {"temporal": 0.1}}]},
            "training would have",
        ),
        ({"shortest": 40}, "above longest"),
        ({"origins": {"real": 0.0, "policy": 0.0, "degraded": 0.0, "generated": 0.0}}, "every share is 0"),
        (
            {"degradations": [{"kind": "blur", "mildest": 0.9, "worst": 0.5, "lowers": {"temporal": 0.1}}]},
            "above worst",
        ),
        ({"degradations": [{"kind": "blur", "lowers": {"beauty": 0.1}}]}, "beauty"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        BenchSpec.model_validate(change)


@pytest.mark.parametrize("path", sorted(Path("specs/bench").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path):
    BenchSpec.model_validate(yaml.safe_load(path.read_text()))


def test_clips_made_elsewhere_are_the_same(folder, bench, builder, models, tmp_path, six):
    asked = []

    def elsewhere(clips):
        asked.append(clips)
        return lambda parts: [make(builder, models, part, {}) for part in parts]

    pairs = build(builder, models, tmp_path / "generated", 10.0, chunks=elsewhere)["judge"]
    assert tuple(pairs) == bench.pairs
    assert asked == [sum(pair.origin == "generated" for pair in pairs)]
    for file in (folder / "generated").rglob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "generated" / file.relative_to(folder / "generated")).read_bytes()
