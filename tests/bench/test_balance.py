from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.balance import level, shares, stratum
from roboalign.bench.build import Builder, all_limits, build, recorded_states
from roboalign.bench.spec import BalanceSpec
from roboalign.store import Corpus
from tests.conftest import toy_episode

STRATA = st.lists(st.integers(0, 4), max_size=60)


@settings(max_examples=80, deadline=None)
@given(STRATA, st.lists(st.integers(0, 20), min_size=5, max_size=5), st.integers(0, 70))
def test_level_takes_each_candidate_once_and_counts_it(candidates, filled, wanted):
    counts = np.array(filled, np.int64)
    chosen = level(candidates, counts, wanted)
    assert len(chosen) == len(set(chosen)) == min(wanted, len(candidates))
    taken = Counter(candidates[number] for number in chosen)
    assert counts.tolist() == [before + taken[n] for n, before in enumerate(filled)]


@settings(max_examples=80, deadline=None)
@given(STRATA, st.integers(0, 60))
def test_no_fuller_stratum_while_an_emptier_one_has_candidates(candidates, wanted):
    counts = np.zeros(5, np.int64)
    chosen = level(candidates, counts, wanted)
    left = Counter(candidates) - Counter(candidates[number] for number in chosen)
    for emptier, waiting in left.items():
        if waiting:
            assert counts[emptier] >= counts.max() - 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(0.01, 5), min_size=1, max_size=9))
def test_shares_add_up_and_are_nearest(total, weights):
    named = {(str(n), ""): weight for n, weight in enumerate(weights)}
    counts = shares(total, named)
    assert sum(counts.values()) == total
    for key, weight in named.items():
        assert abs(counts[key] - total * weight / sum(weights)) < 1


@pytest.mark.parametrize(("total", "expected"), [(0.0, 0), (1.99, 0), (2.0, 1), (9.9, 4), (10.0, 4)])
def test_strata_are_of_equal_width(total, expected):
    assert stratum(total, 10, 5) == expected


def test_balancing_evens_out_the_totals(builder, corpus, small, six):
    def spread(spec):
        pairs = build(Builder(corpus, spec, six, builder.states, builder.limits), {}, Path("unused"), 10.0)["judge"]
        return np.histogram([sum(pair.scores) for pair in pairs], small.balance.strata, (0, 10))[0]

    many = small.model_copy(update={"pairs": 400})
    plain = many.model_copy(update={"balance": BalanceSpec(candidates=1)})
    even, uneven = spread(many), spread(plain)
    assert even.sum() == uneven.sum()
    assert even.std() < 0.8 * uneven.std()


def test_sources_weigh_the_same_or_by_their_episodes(six, small):
    few = [replace(toy_episode(n), source="few", id=f"few/{n}") for n in range(6)]
    many = [replace(toy_episode(n + 100), source="many", id=f"many/{n}") for n in range(18)]
    corpus = Corpus.of([*few, *many])
    states = recorded_states(corpus)
    limits = all_limits(corpus.infos, states, six)

    def counts(sources):
        spec = small.model_copy(update={"balance": BalanceSpec(sources=sources)})
        pairs = build(Builder(corpus, spec, six, states, limits), {}, Path("unused"), 10.0)["judge"]
        return Counter(pair.source for pair in pairs)

    assert counts("equal")["few"] == counts("equal")["many"]
    assert counts("episodes")["many"] == pytest.approx(3 * counts("episodes")["few"], abs=3)


def test_every_degradation_that_applies_is_as_frequent(builder, small):
    kinds = Counter(p.degradation for p in builder.plan([]) if p.degradation and p.split == "train")
    assert max(kinds.values()) - min(kinds.values()) <= 1
    assert set(kinds) == {d.kind for d in small.degradations} - set(small.held_out) - {"swapped_instruction"}
