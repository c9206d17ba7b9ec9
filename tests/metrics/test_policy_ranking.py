"""Agreement of rankings: SIMPLER's published figures, and properties of the intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from roboalign.metrics.policy_ranking import (
    agreement_difference,
    masked_rate,
    mean_maximum_rank_violation,
    random_agreement,
    ranking_agreement,
)
from roboalign.metrics.statistics import pearson

# RT-1 (converged, 15 %, X, begin), RT-2-X and Octo-Base picking a coke can (Li et al. 2024, table I).
REAL = [0.853, 0.920, 0.760, 0.133, 0.907, 0.293]
SIMULATED = [0.857, 0.710, 0.567, 0.027, 0.787, 0.170]
RATES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8)


def test_published_figures_of_simpler() -> None:
    assert mean_maximum_rank_violation(SIMULATED, REAL) == pytest.approx(0.031, abs=5e-4)
    assert pearson(SIMULATED, REAL) == pytest.approx(0.976, abs=1e-3)  # of rounded rates


def test_rank_violation_by_hand() -> None:
    # The first two are swapped (.2 apart in truth), and the third is where it belongs.
    assert mean_maximum_rank_violation([0.1, 0.3, 0.9], [0.5, 0.3, 0.8]) == pytest.approx(2 * 0.2 / 3)
    # A tie in the model is a violation for the one of the two that is better in truth.
    assert mean_maximum_rank_violation([0.5, 0.5], [0.2, 0.6]) == pytest.approx(0.4 / 2)


@given(RATES)
def test_rank_violation_is_bounded_and_depends_on_order_only(rates: list[tuple[float, float]]) -> None:
    model, truth = (np.array(column) for column in zip(*rates, strict=True))
    value = mean_maximum_rank_violation(model, truth)
    assert 0 <= value <= np.ptp(truth) + 1e-12
    assert mean_maximum_rank_violation(2 * model, truth) == value
    assert mean_maximum_rank_violation(truth, truth) == 0


def test_agreement_equals_scipy_and_covers_itself() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((9, 40)) < np.linspace(0.1, 0.9, 9)[:, None]).astype(float)
    model = (rng.random((9, 40)) < np.linspace(0.1, 0.6, 9)[:, None]).astype(float)
    found = ranking_agreement(model, truth, draws=500)
    means = model.mean(1), truth.mean(1)
    assert found["pearson"]["mean"] == pytest.approx(stats.pearsonr(*means).statistic)
    assert found["spearman"]["mean"] == pytest.approx(stats.spearmanr(*means).statistic)
    assert found["mmrv"]["mean"] == pytest.approx(mean_maximum_rank_violation(*means))
    assert found["episodes"] == 40
    for name in ("pearson", "spearman"):
        entry = found[name]
        assert entry["low"] < entry["mean"] <= entry["high"] <= 1
        assert entry["n"] == 9


def test_a_difference_is_that_of_the_agreements_and_its_draws_are_shared() -> None:
    rng = np.random.default_rng(4)
    truth, before, noise = (
        (rng.random((12, 50)) < np.linspace(low, high, 12)[:, None]).astype(float)
        for low, high in ((0.1, 0.9), (0.1, 0.7), (0.4, 0.4))
    )
    after = np.where(rng.random((12, 50)) < 0.1, noise, before)
    found = agreement_difference(before, after, truth, draws=500)
    alone = [ranking_agreement(model, truth, draws=500) for model in (before, after)]
    for name in ("pearson", "spearman", "mmrv"):
        assert found[name]["mean"] == pytest.approx(alone[1][name]["mean"] - alone[0][name]["mean"])
        assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]
    width = found["pearson"]["high"] - found["pearson"]["low"]
    assert width < sum(each["pearson"]["high"] - each["pearson"]["low"] for each in alone)
    same = agreement_difference(before, before, truth, draws=100)
    assert same["mmrv"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 12}
    assert "pearson" not in agreement_difference(before, np.ones_like(before), truth, draws=100)


def test_more_episodes_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    rates = np.linspace(0.1, 0.9, 10)[:, None]
    widths = []
    for episodes in (10, 400):
        truth, model = ((rng.random((10, episodes)) < rates).astype(float) for _ in range(2))
        entry = ranking_agreement(model, truth, draws=500)["pearson"]
        widths.append(entry["high"] - entry["low"])
    assert widths[1] < 0.5 * widths[0]


def test_a_constant_evaluation_has_no_correlation() -> None:
    truth = np.array([[0.0, 1.0], [1.0, 1.0]])
    found = ranking_agreement(np.ones((2, 2)), truth, draws=100)
    assert "pearson" not in found
    assert "mmrv" in found


def test_episodes_that_a_policy_was_not_evaluated_on_do_not_count() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random((4, 60)) < np.array([0.2, 0.4, 0.6, 0.8])[:, None]).astype(float)
    model = 0.5 * truth + 0.1
    truth[1, :40] = model[1, :40] = np.nan
    found = ranking_agreement(model, truth, draws=200)
    assert found["pearson"]["mean"] == pytest.approx(1)
    assert found["pearson"]["low"] == pytest.approx(1), "each draw uses the same episodes in both"
    assert found["mmrv"]["mean"] == 0
    rates = truth[[0, 2, 3]].mean(1), truth[1, 40:].mean()
    shuffled = model[:, rng.permutation(60)]
    shuffled[np.isnan(truth)] = np.nan
    shuffled[1, 40:] = 0.3
    expected = [*np.nanmean(shuffled, 1)]
    assert ranking_agreement(shuffled, truth, draws=100)["spearman"]["mean"] == pytest.approx(
        stats.spearmanr(expected, [rates[0][0], rates[1], *rates[0][1:]]).statistic
    )
    assert random_agreement(truth, draws=200)["pearson"]["low"] < 0
    rate = masked_rate(truth, truth >= 0.5, draws=100)
    assert rate is not None
    assert (rate.mean, rate.n) == (1, int((truth == 1).sum()))


@pytest.mark.parametrize("model", [np.full((2, 2), np.nan), np.zeros((2, 3)), np.zeros((0, 2))])
def test_tables_that_do_not_fit_are_refused(model: np.ndarray) -> None:
    with pytest.raises(ValueError, match="model"):
        ranking_agreement(model, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="model"):
        agreement_difference(np.zeros((2, 2)), model, np.zeros((2, 2)))


def test_a_policy_without_an_episode_is_refused() -> None:
    table = np.array([[0.0, 1.0], [np.nan, np.nan]])
    with pytest.raises(ValueError, match="no episode"):
        ranking_agreement(table, table)


def test_masked_rate_counts_what_the_mask_selects() -> None:
    values = [[1, 0, 1], [0, 0, 1]]
    mask = [[True, True, False], [True, False, True]]
    rate = masked_rate(values, mask, draws=200)
    assert rate is not None
    assert (rate.mean, rate.n) == (0.5, 4)
    assert rate.low <= 0.5 <= rate.high
    assert masked_rate(values, np.zeros((2, 3), bool)) is None


@settings(max_examples=20)
@given(st.integers(2, 30))
def test_equal_columns_leave_no_doubt(episodes: int) -> None:
    rate = masked_rate(np.tile([[1.0], [0.0]], (1, episodes)), np.ones((2, episodes), bool), draws=100)
    assert rate is not None
    assert rate.low == rate.mean == rate.high == 0.5


def test_random_judges_agree_as_often_as_they_disagree() -> None:
    truth = (np.random.default_rng(2).random((10, 30)) < np.linspace(0, 1, 10)[:, None]).astype(float)
    found = random_agreement(truth)
    for name in ("pearson", "spearman"):
        assert abs(found[name]["mean"]) < 0.03
        assert found[name]["low"] < -0.5
        assert found[name]["high"] > 0.5
    assert found["mmrv"]["mean"] > 0.2
