from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.build import (
    PairPlanner,
    apportion,
    build,
    choose_evenly,
    generate_chunk,
    generate_clips,
    score_bin,
)
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import Bench, BenchError, write_pairs
from roboalign.bench.spec import BalanceSpec
from roboalign.store import Corpus, EpisodeStore
from tests.conftest import toy_episode

BINS = st.lists(st.integers(0, 4), max_size=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, labeller, models, six) -> Path:
    path = tmp_path_factory.mktemp("bench")
    write_pairs(
        path / "pairs.parquet", build({"judge": labeller}, models, path / "generated", 10.0)["judge"], six.names
    )
    return path


@pytest.fixture(scope="module")
def bench(folder, corpus, six) -> Bench:
    return Bench.open(folder, corpus, six.names)


def test_the_same_bench_twice_byte_for_byte(folder, tmp_path, labeller, models, six):
    write_pairs(
        tmp_path / "pairs.parquet", build({"judge": labeller}, models, tmp_path / "generated", 10.0)["judge"], six.names
    )
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) > 3
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_counts_follow_the_spec(bench, small):
    assert len(bench) == small.pairs
    origins = [pair.origin for pair in bench.pairs]
    for origin, share in small.origins.model_dump().items():
        assert abs(origins.count(origin) / len(bench) - share) < 0.04, origin
    assert len(bench.filter(split="train", hidden=True)) == 52


def test_no_pair_leaks_out_of_the_split_of_its_episodes(bench, corpus):
    split = {info.id: info.split for info in corpus.infos}
    scenes = {info.id: info.scene for info in corpus.infos}
    for pair in bench.pairs:
        assert pair.split == split[pair.episode]
        assert not pair.other or split[pair.other] == pair.split
    by_split = {name: {scenes[bench.pairs[n].episode] for n in bench.filter(split=name)} for name in ("train", "test")}
    assert not by_split["train"] & by_split["test"]


def test_held_out_degradations_are_in_the_test_split_alone(bench, small):
    kinds = {name: {bench.pairs[n].degradation for n in bench.filter(split=name)} for name in ("train", "validation")}
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


def test_batches_do_not_change_generated_clips(bench, labeller, models, tmp_path):
    rows = [replace(p, generated=-1, scores=(), faithful=()) for p in bench.pairs if p.origin == "generated"]
    wide = labeller.spec.model_copy(update={"generated": labeller.spec.generated.model_copy(update={"batch_size": 7})})
    again = generate_clips({"judge": replace(labeller, spec=wide)}, models, rows, tmp_path / "g", 10.0)["judge"]
    assert [p.scores for p in again] == [p.scores for p in bench.pairs if p.origin == "generated"]


def test_clips_made_elsewhere_are_the_same(folder, bench, labeller, models, tmp_path, six):
    asked = []

    def elsewhere(chunks):
        asked.append(sum(map(len, chunks)))
        return [generate_chunk({"judge": labeller}, models, chunk) for chunk in chunks]

    pairs = build({"judge": labeller}, models, tmp_path / "generated", 10.0, generate_chunks=elsewhere)["judge"]
    assert tuple(pairs) == bench.pairs
    assert asked == [sum(pair.origin == "generated" for pair in pairs)]
    for file in (folder / "generated").rglob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "generated" / file.relative_to(folder / "generated")).read_bytes()


def test_without_models_nothing_is_generated(labeller, tmp_path):
    pairs = build({"judge": labeller}, {}, tmp_path / "generated", 10.0)["judge"]
    assert len(pairs) == labeller.spec.pairs
    assert not (tmp_path / "generated").exists()
    assert all(pair.origin != "generated" for pair in pairs)


def test_an_instruction_is_swapped_for_one_of_another_task(six, small):
    push = [toy_episode(n) for n in range(9)]
    pull = [replace(toy_episode(n + 9), task="pull", instruction="pull the handle") for n in range(9)]
    corpus = Corpus.of([*push, *pull])
    swaps = [d for d in small.degradations if d.kind == "swapped_instruction"]
    spec = small.model_copy(update={"degradations": tuple(swaps), "held_out": ()})
    labeller = PairLabeller.of(corpus, spec, six)
    swapped = [
        pair for pair in build({"judge": labeller}, {}, Path("unused"), 10.0)["judge"] if pair.origin == "degraded"
    ]
    assert swapped
    given = {episode.id: episode for episode in [*push, *pull]}
    for pair in swapped:
        assert (pair.instruction == "pull the handle") == (given[pair.episode].task == "push")
        assert pair.scores[0] <= 0.6
        assert pair.scores[1] <= 0.4
        assert pair.provenance == "rubric_declared"


def test_generated_clips_are_in_a_store_that_says_so(folder):
    store = EpisodeStore(folder / "generated")
    assert all(info.success is None for info in store.infos)


@pytest.fixture(scope="module")
def robots():
    """A source without states, as of real robots."""
    return Corpus.of([replace(toy_episode(n), policy="unknown", state=None, keypoints=None) for n in range(9)])


def test_a_bench_without_pairs_is_refused(robots, small, six):
    labeller = PairLabeller.of(robots, small.model_copy(update={"unlabelled": "skip"}), six)
    with pytest.raises(BenchError, match="recorded states"):
        build({"judge": labeller}, {}, Path("unused"), 10.0)


def test_balancing_evens_out_the_totals(labeller, corpus, small, six):
    def histogram(spec):
        pairs = build({"judge": PairLabeller.of(corpus, spec, six)}, {}, Path("unused"), 10.0)["judge"]
        return np.histogram([sum(pair.scores) for pair in pairs], small.balance.score_bins, (0, 10))[0]

    many = small.model_copy(update={"pairs": 400})
    plain = many.model_copy(update={"balance": BalanceSpec(candidates=1)})
    even, uneven = histogram(many), histogram(plain)
    assert even.sum() == uneven.sum()
    assert even.std() < 0.8 * uneven.std()


def test_sources_weigh_the_same_or_by_their_episodes(six, small):
    few = [replace(toy_episode(n), source="few", id=f"few/{n}") for n in range(6)]
    many = [replace(toy_episode(n + 100), source="many", id=f"many/{n}") for n in range(18)]
    corpus = Corpus.of([*few, *many])

    def counts(sources):
        spec = small.model_copy(update={"balance": BalanceSpec(sources=sources)})
        pairs = build({"judge": PairLabeller.of(corpus, spec, six)}, {}, Path("unused"), 10.0)["judge"]
        return Counter(pair.source for pair in pairs)

    assert counts("equal")["few"] == counts("equal")["many"]
    assert counts("episodes")["many"] == pytest.approx(3 * counts("episodes")["few"], abs=3)


def test_every_degradation_that_applies_is_as_frequent(labeller, small):
    kinds = Counter(p.degradation for p in PairPlanner(labeller).plan_pairs([]) if p.degradation and p.split == "train")
    assert max(kinds.values()) - min(kinds.values()) <= 1
    assert set(kinds) == {d.kind for d in small.degradations} - set(small.held_out) - {"swapped_instruction"}


def test_shares_add_up():
    counts = apportion(10, {("a", ""): 1.0, ("b", ""): 1.0, ("c", ""): 1.0})
    assert sum(counts.values()) == 10
    assert max(counts.values()) - min(counts.values()) == 1


@settings(max_examples=80, deadline=None)
@given(BINS, st.lists(st.integers(0, 20), min_size=5, max_size=5), st.integers(0, 70))
def test_each_candidate_is_chosen_once_and_counted(candidates, filled, wanted):
    counts = np.array(filled, np.int64)
    chosen = choose_evenly(candidates, counts, wanted)
    assert len(chosen) == len(set(chosen)) == min(wanted, len(candidates))
    taken = Counter(candidates[number] for number in chosen)
    assert counts.tolist() == [before + taken[n] for n, before in enumerate(filled)]


@settings(max_examples=80, deadline=None)
@given(BINS, st.integers(0, 60))
def test_no_bin_is_fuller_while_an_emptier_one_has_candidates(candidates, wanted):
    counts = np.zeros(5, np.int64)
    chosen = choose_evenly(candidates, counts, wanted)
    left = Counter(candidates) - Counter(candidates[number] for number in chosen)
    for emptier, waiting in left.items():
        if waiting:
            assert counts[emptier] >= counts.max() - 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(0.01, 5), min_size=1, max_size=9))
def test_shares_add_up_and_are_nearest(total, weights):
    named = {(str(n), ""): weight for n, weight in enumerate(weights)}
    counts = apportion(total, named)
    assert sum(counts.values()) == total
    for key, weight in named.items():
        assert abs(counts[key] - total * weight / sum(weights)) < 1


@pytest.mark.parametrize(("total", "expected"), [(0.0, 0), (1.99, 0), (2.0, 1), (9.9, 4), (10.0, 4)])
def test_score_bins_are_of_equal_width(total, expected):
    assert score_bin(total, 10, 5) == expected
