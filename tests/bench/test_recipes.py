from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.annotations import Annotation
from roboalign.bench.build import Builder, all_limits, build, recorded_states
from roboalign.bench.objects import OBJECT_UV
from roboalign.bench.pairs import Bench, BenchError, identity
from roboalign.bench.spec import BalanceSpec
from roboalign.store import Corpus
from tests.conftest import toy_episode


def built(corpus, spec, six, annotations=()):
    states = recorded_states(corpus)
    limits = all_limits(corpus.infos, states, six)
    return build(Builder(corpus, spec, six, states, limits, None, annotations), {}, Path("unused"), 10.0)["judge"]


@pytest.fixture(scope="module")
def robots():
    """A source without states, as of real robots."""
    return Corpus.of([replace(toy_episode(n), policy="unknown", state=None, keypoints=None) for n in range(9)])


def test_another_source_leaves_the_clips_of_the_first(toy_episodes, corpus, small, six):
    spec = small.model_copy(update={"balance": BalanceSpec(candidates=1)})
    others = [replace(e, source="other", id=f"other/{n}", scene=f"o{n}") for n, e in enumerate(toy_episodes)]
    alone = {pair.id for pair in built(corpus, spec, six)}
    both = {pair.id for pair in built(Corpus.of([*toy_episodes, *others]), spec, six) if pair.source == "toy"}
    assert len(both) < len(alone)
    assert len(both - alone) <= 0.1 * len(both)


def test_ids_name_the_clip_and_not_its_label(builder, corpus, small, six):
    pairs = built(corpus, small, six)
    assert all(len(pair.id) == 16 for pair in pairs)
    pair = pairs[0]
    same = replace(pair, scores=(0.0,) * 6, provenance="people", judged=False, origin="policy")
    assert identity(same, "scene") == identity(pair, "scene")
    for change in ({"start": pair.start + 1}, {"instruction": "wave"}, {"episode": "x"}, {"model": "final"}):
        assert identity(replace(pair, **change), "scene") != identity(pair, "scene")
    assert identity(pair, "another scene") != identity(pair, "scene")
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    assert identity(pair, "scene", frames) != identity(pair, "scene", frames + 1)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_any_seed_gives_clips_within_their_episodes(corpus, small, six, seed):
    pairs = built(corpus, small.model_copy(update={"seed": seed, "pairs": 40}), six)
    lengths = {info.id: info.length for info in corpus.infos}
    assert len(pairs) == 40
    bench = Bench(pairs, corpus)
    for number, pair in enumerate(pairs):
        assert 0 <= pair.start < pair.stop <= lengths[pair.episode]
        assert small.shortest <= pair.stop - pair.start <= small.longest
        assert (np.array(pair.scores) >= 0).all()
        assert (np.array(pair.scores) <= np.array(six.max_scores) + 1e-9).all()
        assert len(bench.keypoints(number)) == len(bench.frames(number))


def test_real_robots_have_no_moved_objects(robots, small, six):
    kinds = {pair.degradation for pair in built(robots, small, six)}
    assert "shuffle" in kinds
    assert not {"object_removed", "object_teleported"} & kinds


def test_sources_without_states_are_skipped_by_spec(robots, toy_episodes, small, six):
    both = Corpus.of([*toy_episodes, *(replace(e, source="robot", id=f"robot/{e.id}") for e in
                                       (robots.read(n) for n in range(len(robots))))])  # fmt: skip
    spec = small.model_copy(update={"unlabelled": "skip"})
    assert {pair.source for pair in built(both, spec, six)} == {"toy"}
    assert {pair.source for pair in built(both, small, six)} == {"toy", "robot"}


def test_a_bench_without_pairs_is_refused(robots, small, six):
    with pytest.raises(BenchError, match="recorded states"):
        built(robots, small.model_copy(update={"unlabelled": "skip"}), six)


def test_objects_that_are_not_found_leave_their_share_to_other_kinds(toy_episodes, small, six):
    def out_of_view(episode):
        keypoints = episode.keypoints.copy()
        keypoints[:, OBJECT_UV] = -1
        return replace(episode, keypoints=keypoints)

    pairs = built(Corpus.of([out_of_view(episode) for episode in toy_episodes]), small, six)
    assert len(pairs) == small.pairs
    assert not {"object_removed", "object_teleported"} & {pair.degradation for pair in pairs}


def answer(pair, six, share, kind="person"):
    scores = {name: share * maximum for name, maximum in zip(six.names, six.max_scores, strict=True)}
    return Annotation(clip=pair.id, rater=f"{kind} {share}", kind=kind, scores=scores)


def test_annotations_label_what_has_no_states(robots, small, six):
    first = built(robots, small, six)
    people = [answer(first[0], six, 0.2), answer(first[0], six, 0.6), answer(first[1], six, 0.5, "vlm")]
    labelled = built(robots, small, six, people)
    by_id = {pair.id: pair for pair in labelled}
    assert len(labelled) == len(first)
    assert by_id[first[0].id].provenance == "people"
    assert by_id[first[0].id].scores == pytest.approx(0.4 * np.array(six.max_scores))
    assert by_id[first[1].id].provenance == "vlm"
    only = built(robots, small.model_copy(update={"unlabelled": "annotations", "annotations": ("x",)}), six, people)
    assert {pair.id for pair in only} == {first[0].id, first[1].id}


def test_annotations_leave_measured_labels_unless_told(corpus, small, six):
    first = built(corpus, small, six)
    people = [answer(first[0], six, 0.3)]
    assert built(corpus, small, six, people) == first
    everything = built(corpus, small.model_copy(update={"annotated": "all"}), six, people)
    changed = {pair.id for pair in everything if pair.provenance == "people"}
    assert changed == {first[0].id}
