from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.metrics.groups import best_of_n, group_metrics, within_group_correlation
from roboalign.metrics.statistics import bootstrap


def brute_force(scores: np.ndarray, gold: np.ndarray, n: int) -> float:
    """The mean over all subsets of `n` of the mean gold of their highest scored candidates."""
    taken = []
    for subset in map(list, combinations(range(len(scores)), n)):
        best = scores[subset] == scores[subset].max()
        taken.append(gold[subset][best].mean())
    return float(np.mean(taken))


def test_best_of_n_by_hand() -> None:
    # Of the six pairs of four candidates, three hold the first one and two of the others the second one.
    assert best_of_n([4, 3, 2, 1], [10, 0, 6, 2], 2) == pytest.approx((3 * 10 + 2 * 0 + 1 * 6) / 6)
    assert best_of_n([1, 2, 3], [5, 6, 7], 3) == 7
    assert best_of_n([1, 2, 3], [5, 6, 10], 1) == 7


def test_a_scorer_that_says_nothing_gains_nothing() -> None:
    gold = np.array([0.0, 1.0, 5.0, 6.0])
    for n in (1, 2, 3, 4):
        assert best_of_n(np.ones(4), gold, n) == pytest.approx(gold.mean())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=8), st.data())
def test_best_of_n_is_the_mean_over_all_subsets(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    scores, gold = np.array(rows, np.float64).T
    n = data.draw(st.integers(1, len(rows)))
    assert best_of_n(scores, gold, n) == pytest.approx(brute_force(scores, gold, n))


def test_best_of_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="best of 3 needs at least 3 candidates, but the group has 2"):
        best_of_n([1, 2], [1, 2], 3)


def test_the_correlation_within_groups_by_hand() -> None:
    # Less the means: scores (-1, 1), (-2, 2), gold (-1, 1), (3, -3); products 2 and -12, squares 10 and 20.
    found = within_group_correlation([[0, 2], [100, 104]], [[5, 7], [9, 3]], draws=100)
    assert found is not None
    assert found["mean"] == pytest.approx((2 - 12) / np.sqrt(10 * 20))
    assert found["n"] == 2
    assert found["low"] <= found["mean"] <= found["high"]


def test_differences_between_groups_do_not_count() -> None:
    rng = np.random.default_rng(0)
    gold = [rng.normal(size=6) for _ in range(5)]
    shifted = [g + 100 * number for number, g in enumerate(gold)]
    reverse = [-g + 1000 * number for number, g in enumerate(gold)]
    same, opposite = within_group_correlation(shifted, gold), within_group_correlation(reverse, shifted)
    assert same is not None
    assert opposite is not None
    assert (same["mean"], opposite["mean"]) == (pytest.approx(1), pytest.approx(-1))
    assert same["low"] == pytest.approx(same["high"]) == pytest.approx(1)


def test_what_is_constant_within_groups_has_no_correlation() -> None:
    assert within_group_correlation([[1, 1], [2, 2]], [[0, 1], [0, 1]]) is None
    assert within_group_correlation([[0, 1], [0, 1]], [[1, 1], [2, 2]]) is None


def test_the_metrics_of_a_perfect_and_of_a_reversed_reward() -> None:
    rng = np.random.default_rng(1)
    gold = [rng.random((4, 2)) for _ in range(6)]
    perfect, reverse = group_metrics(gold, gold, ("a", "b")), group_metrics([-g for g in gold], gold, ("a", "b"))
    assert (perfect["groups"], perfect["size"]) == (6, 4)
    assert perfect["correlation"]["mean"] == pytest.approx(1)
    assert reverse["correlation"]["mean"] == pytest.approx(-1)
    assert set(perfect["by_dimension"]) == {"a", "b"}
    assert (perfect["pair_accuracy"], reverse["pair_accuracy"]) == (1, 0)
    assert set(perfect["best_of"]) == {"2", "4"}, "no group has 8 candidates"
    gains = [g.sum(1).max() - g.sum(1).mean() for g in gold]
    assert perfect["best_of"]["4"] == bootstrap(gains, 2000, 0).json()
    assert reverse["best_of"]["4"]["mean"] < 0


def test_dimensions_without_differences_are_left_out() -> None:
    gold = [np.array([[0.0, 1.0], [1.0, 1.0]])]
    assert set(group_metrics(gold, gold, ("moves", "still"))["by_dimension"]) == {"moves"}
