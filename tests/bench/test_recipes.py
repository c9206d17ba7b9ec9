from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.build import build
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import Bench
from roboalign.bench.spec import BalanceSpec
from roboalign.store import Corpus
from tests.conftest import toy_episode


def build_pairs(corpus, spec, six):
    return build({"judge": PairLabeller.of(corpus, spec, six)}, {}, Path("unused"), 10.0)["judge"]


@pytest.fixture(scope="module")
def robots():
    """A source without states, as of real robots."""
    return Corpus.of([replace(toy_episode(n), policy="unknown", state=None, keypoints=None) for n in range(9)])


def test_another_source_leaves_the_clips_of_the_first(toy_episodes, corpus, small, six):
    spec = small.model_copy(update={"balance": BalanceSpec(candidates=1)})
    others = [replace(e, source="other", id=f"other/{n}", scene=f"o{n}") for n, e in enumerate(toy_episodes)]
    alone = {pair.id for pair in build_pairs(corpus, spec, six)}
    both = {pair.id for pair in build_pairs(Corpus.of([*toy_episodes, *others]), spec, six) if pair.source == "toy"}
    assert len(both) < len(alone)
    assert len(both - alone) <= 0.1 * len(both)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_any_seed_gives_clips_within_their_episodes(corpus, small, six, seed):
    pairs = build_pairs(corpus, small.model_copy(update={"seed": seed, "pairs": 40}), six)
    lengths = {info.id: info.length for info in corpus.infos}
    assert len(pairs) == 40
    bench = Bench(pairs, corpus)
    for number, pair in enumerate(pairs):
        assert 0 <= pair.start < pair.stop <= lengths[pair.episode]
        assert small.min_frames <= pair.stop - pair.start <= small.max_frames
        assert (np.array(pair.scores) >= 0).all()
        assert (np.array(pair.scores) <= np.array(six.max_scores) + 1e-9).all()
        assert 1 <= len(bench.frames(number)) <= pair.stop - pair.start


def test_real_robots_have_no_moved_objects(robots, small, six):
    kinds = {pair.degradation for pair in build_pairs(robots, small, six)}
    assert "shuffle" in kinds
    assert not {"object_removed", "object_teleported"} & kinds


def test_objects_that_are_not_found_leave_their_share_to_other_kinds(toy_episodes, small, six):
    grey = Corpus.of([replace(episode, frames=np.full_like(episode.frames, 60)) for episode in toy_episodes])
    pairs = build_pairs(grey, small, six)
    assert len(pairs) == small.pairs
    assert not {"object_removed", "object_teleported"} & {pair.degradation for pair in pairs}
