import numpy as np
import pytest

from roboalign.metrics.statistics import (
    bootstrap,
    holm,
    kendall,
    pair_accuracy,
    paired_difference,
    quadratic_weighted_kappa,
    ratio,
    spearman,
    wilcoxon,
    wilson,
)


def test_bootstrap_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    interval = bootstrap(values)
    error = values.std(ddof=1) / 20
    assert interval.n == 400
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(interval.mean - 1.96 * error, abs=0.02)
    assert interval.high == pytest.approx(interval.mean + 1.96 * error, abs=0.02)
    assert interval == bootstrap(values)
    assert interval != bootstrap(values, seed=1)


def test_a_ratio_is_that_of_the_means_and_its_interval_pairs_episodes() -> None:
    below = np.random.default_rng(0).uniform(0.1, 4, 200)
    assert ratio(3 * below, below).json() == {
        "mean": pytest.approx(3), "low": pytest.approx(3), "high": pytest.approx(3), "n": 200,
    }  # fmt: skip
    above = below + np.random.default_rng(1).normal(0, 1, 200)
    interval = ratio(above, below)
    # The delta method: the deviation of a - r b over the mean of b.
    error = (above - interval.mean * below).std(ddof=1) / np.sqrt(200) / below.mean()
    assert interval.mean == pytest.approx(above.mean() / below.mean())
    assert interval.low == pytest.approx(interval.mean - 1.96 * error, abs=0.02)
    assert interval.high == pytest.approx(interval.mean + 1.96 * error, abs=0.02)
    with pytest.raises(ValueError, match="must be above 0"):
        ratio([1.0, 2.0], [1.0, 0.0])


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    intervals = [bootstrap(generator.normal(0, 1, 40), draws=400) for _ in range(300)]
    assert 0.9 < np.mean([interval.low <= 0 <= interval.high for interval in intervals]) < 0.98


def test_bootstrap_of_one_value_and_of_none() -> None:
    assert bootstrap([2.0]).json() == {"mean": 2.0, "low": 2.0, "high": 2.0, "n": 1}
    with pytest.raises(ValueError, match="non-empty"):
        bootstrap([])
    with pytest.raises(ValueError, match="NaN"):
        bootstrap([1.0, float("nan")])


def test_pairing_removes_what_pairs_share() -> None:
    generator = np.random.default_rng(2)
    shared = generator.normal(0, 10, 50)
    difference = paired_difference(shared + 1 + generator.normal(0, 0.1, 50), shared)
    assert 0.9 < difference.low < difference.mean < difference.high < 1.1
    with pytest.raises(ValueError, match="differ in length"):
        paired_difference([1.0], [1.0, 2.0])


def test_wilcoxon_on_a_textbook_sample() -> None:
    # Darwin's maize (Wilcoxon's test in scipy's documentation): cross- minus self-fertilised heights.
    d = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
    assert wilcoxon(d, [0] * 15) == pytest.approx(0.041259765625)
    assert wilcoxon(d, d) == 1.0


def test_holm_on_a_known_family() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_rank_correlations() -> None:
    a, b = [12, 2, 1, 12, 2], [1, 4, 7, 1, 0]
    assert kendall(a, b) == pytest.approx(-0.4714045207910316)  # scipy's documented example
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert kendall([1, 2, 3], [4, 4, 4]) is None


def test_kappa_equals_its_definition() -> None:
    a, b = np.array([0, 1, 2, 3, 3, 2, 1, 0, 2, 2]), np.array([0, 1, 2, 3, 2, 2, 0, 0, 3, 1])
    observed = np.histogram2d(a, b, bins=4, range=[(-0.5, 3.5)] * 2)[0]
    weights = np.subtract.outer(np.arange(4), np.arange(4)) ** 2
    expected = np.outer(observed.sum(1), observed.sum(0)) / 10
    assert quadratic_weighted_kappa(a, b) == pytest.approx(1 - (weights * observed).sum() / (weights * expected).sum())
    assert quadratic_weighted_kappa(a, a) == pytest.approx(1.0)
    assert quadratic_weighted_kappa([0, 0, 1, 1], [1, 1, 0, 0]) == pytest.approx(-1.0)
    assert quadratic_weighted_kappa([2, 2], [2, 2]) is None


def test_pair_accuracy_looks_within_groups() -> None:
    assert pair_accuracy([1, 2, 3], [1, 2, 3]) == 1.0
    assert pair_accuracy([1, 2, 3], [3, 2, 1]) == 0.0
    assert pair_accuracy([1, 1], [0, 1]) == 0.5
    assert pair_accuracy([1, 2], [0, 0]) is None
    # Right within both groups, wrong across them.
    assert pair_accuracy([1, 2, 11, 12], [5, 6, 1, 2], groups=["a", "a", "b", "b"]) == 1.0
    assert pair_accuracy([1, 2, 11, 12], [5, 6, 1, 2]) == pytest.approx(2 / 6)
    # Three pairs in a: 2 right; one in b: tied in gold.
    assert pair_accuracy([1, 3, 2, 0, 1], [1, 2, 3, 4, 4], groups=[0, 0, 0, 1, 1]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 20, 0.0089, 0.2361)],
)
def test_wilsons_interval_of_a_rate(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson([1.0] * successes + [0.0] * (n - successes))
    assert (interval.mean, interval.n) == (successes / n, n)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
