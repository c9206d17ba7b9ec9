import numpy as np
import pytest
import torch
from rollout_fakes import ToySampler, ToyTokenizer, picture

from roboalign.rollout.drift import (
    best_window,
    bound,
    bound_autoregressive,
    closed_form_window,
    contraction,
    epsilon,
    error_path,
    every_age,
    predicted_error,
    predicted_error_independent,
    rows,
)
from roboalign.rollout.measure_drift import (
    ErrorGrowth,
    divergences,
    encode_truth,
    measure_error_growth,
    one_step_errors,
    refresh_errors,
)
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.spec import DriftSpec


def test_epsilon_is_the_excess_over_the_codec_and_never_negative() -> None:
    assert epsilon([0.3, 0.1], [0.1, 0.2]).tolist() == pytest.approx([0.2, 0.0])


def test_ages_between_measured_ones_are_linear_and_beyond_them_constant() -> None:
    assert every_age({1: 1.0, 3: 3.0, 5: 4.0}, 7).tolist() == [1, 2, 3, 3.5, 4, 4, 4]


def test_alpha_is_the_factor_by_which_pairs_come_closer() -> None:
    steps = 0.8 ** np.arange(6)
    assert contraction(np.stack([2 * steps, 0.5 * steps])) == pytest.approx(0.8)
    assert contraction(np.zeros((2, 6))) is None


def test_the_bounds_by_hand() -> None:
    # 2 * .1 + (2 * .1 + .05) / (1 - .25) and .1 / .5
    assert bound(2, 0.5, 0.1, 0.05) == pytest.approx(0.2 + 0.25 / 0.75)
    assert bound_autoregressive(0.5, 0.1) == pytest.approx(0.2)
    assert bound(6, 1e-9, 0.1, 0.05) == pytest.approx(2 * 6 * 0.1 + 0.05)  # the paper's limit, alpha -> 0
    assert bound(2, 1.0, 0.1, 0.05) is None
    assert bound_autoregressive(1.2, 0.1) is None


@pytest.mark.parametrize("alpha", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("window", [1, 3, 8])
def test_the_recursion_stays_below_proposition_1(alpha: float, window: int) -> None:
    path = error_path(window, alpha, np.full(200, 0.01), 0.02)
    limit = bound(window, alpha, 0.01, 0.02)
    assert limit is not None
    assert path.max() <= limit


def test_the_recursion_by_hand() -> None:
    # ages 1 2 | 1 2 | 1: .1, .5*.1+.2, .5*(.25+.3)+.1, …
    path = error_path(2, 0.5, [0.1, 0.2, 9.0, 9.0, 9.0], 0.3)
    assert path.tolist() == pytest.approx([0.1, 0.25, 0.375, 0.3875, 0.44375])


def test_at_equal_error_of_all_ages_a_refresh_only_costs() -> None:
    flat, none = np.full(30, 0.01), np.zeros(30)
    errors = {window: predicted_error(window, 0.9, flat, none, 0.005) for window in (2, 6, 30)}
    assert best_window(errors) == 30


def test_errors_that_grow_with_age_call_for_a_window() -> None:
    growing, none = 0.002 * np.arange(1, 31), np.zeros(30)
    errors = {window: predicted_error(window, 0.9, growing, none, 0.02) for window in range(1, 31)}
    assert 1 < best_window(errors) < 30
    free = {window: predicted_error(window, 0.9, growing, none, 0.0) for window in range(1, 31)}
    assert best_window(free) == 1


def test_the_floor_is_reset_by_a_refresh() -> None:
    assert predicted_error(2, 0.5, [0.0] * 4, [0.1, 0.2, 0.3, 0.4], 0.0) == pytest.approx(0.15)
    assert predicted_error(4, 0.5, [0.0] * 4, [0.1, 0.2, 0.3, 0.4], 0.0) == pytest.approx(0.25)


def test_independent_errors_add_as_squares() -> None:
    # Frame 1: 3; frame 2: 3 and 4 make 5; the floor of 12 makes them sqrt(153) and 13.
    assert predicted_error_independent(2, 1.0, [3.0, 4.0], [0.0, 0.0], 9.0) == pytest.approx(4.0)
    assert predicted_error_independent(2, 1.0, [3.0, 4.0], [12.0, 12.0], 9.0) == pytest.approx((153**0.5 + 13) / 2)
    assert predicted_error_independent(1, 1.0, [3.0, 9.9], [0.0, 0.0], 4.0) == pytest.approx((3 + 34**0.5) / 2)


def test_the_closed_form_by_hand() -> None:
    assert closed_form_window(np.exp(-0.5), 0.01, 0.03) == pytest.approx(2.0)  # sqrt(.06 / (.03 * .5))
    assert closed_form_window(1.0, 0.01, 0.03) is None
    assert closed_form_window(0.5, 0.0, 0.03) is None


def test_rows_hold_each_window_predicted_and_measured() -> None:
    table = rows([1, 2], 0.5, np.array([0.1, 0.2]), np.array([0.0, 0.1]), 0.3, {1: np.ones(2), 2: np.zeros(2)})
    assert table == [
        {"frame": 1, "series": "", "epsilon": 0.1, "floor": 0.0},
        {"frame": 2, "series": "", "epsilon": 0.2, "floor": 0.1},
        {"frame": 1, "series": "w1", "predicted": 0.1, "measured": 1.0},
        {"frame": 2, "series": "w1", "predicted": pytest.approx(0.5 * (0.1 + 0.3) + 0.1), "measured": 1.0},
        {"frame": 1, "series": "w2", "predicted": 0.1, "measured": 0.0},
        {"frame": 2, "series": "w2", "predicted": pytest.approx(0.5 * 0.1 + 0.2 + 0.1), "measured": 0.0},
    ]


def still(rows_: int = 2, horizon: int = 6) -> tuple[Prompt, torch.Tensor]:
    """Scenes in which nothing moves, and their true futures."""
    levels = torch.full((rows_, 1), 200)
    prompt = Prompt(
        picture(levels[:, 0]),
        torch.zeros(rows_, horizon, 1),
        torch.ones(rows_, 1, dtype=torch.bool),
        torch.arange(rows_),
    )
    return prompt, picture(levels.expand(-1, horizon))


def test_measured_one_step_errors_grow_as_the_toy_model_does() -> None:
    prompt, frames = still()
    codec, sampler = ToyTokenizer(), ToySampler(drift=2)
    truth = encode_truth(codec, prompt, frames)
    errors = one_step_errors(codec, sampler, prompt, truth, [1, 3, 6])
    assert errors == pytest.approx(np.array([[0.002, 0.006, 0.012]] * 2), abs=1e-6)


def test_measured_divergence_is_what_history_left_behind() -> None:
    prompt, frames = still()
    codec, sampler = ToyTokenizer(), ToySampler(drift=1)
    truth = encode_truth(codec, prompt, frames)
    drifting = frames + torch.tensor([1, 3, 6, 10, 15, 21]).view(1, 6, 1, 1, 1) / 1000
    pairs = divergences(codec, sampler, prompt, truth, drifting, [2, 3], 3)
    assert pairs.shape == (4, 3)
    # A pair leaves the truth with the error of the frames before: 3 after two of them, 6 after three.
    assert pairs == pytest.approx(np.array([[0.003] * 3] * 2 + [[0.006] * 3] * 2), abs=1e-6)


def test_measured_delta_is_the_loss_of_an_encoding() -> None:
    frames = picture(torch.tensor([[100, 200]]))
    assert refresh_errors(ToyTokenizer(loss=4), frames) == pytest.approx(np.array([0.004, 0.004]), abs=1e-6)


def test_growth_is_measured_over_batches_as_over_all() -> None:
    prompt, frames = still(3)
    plain = frames + torch.tensor([1, 3, 6, 10, 15, 21]).view(1, 6, 1, 1, 1) / 1000
    spec = DriftSpec(ages=(1, 3, 5), starts=(2, 3), steps=3)

    def measured(*parts: slice) -> ErrorGrowth:
        batches = [(prompt.select(part), frames[part], plain[part]) for part in parts]
        return measure_error_growth(ToyTokenizer(loss=2), ToySampler(drift=1), batches, spec, 2)

    whole = measured(slice(0, 3))
    # A context that is 2 too bright: so is what its true tokens show, and what is drawn on top by the toy's drift.
    assert whole.at_ages == pytest.approx({1: 0.001, 3: 0.003, 5: 0.005}, abs=1e-6)
    assert whole.error == pytest.approx([0.001, 0.002, 0.003, 0.004, 0.005, 0.005], abs=1e-6)
    assert whole.floor == pytest.approx([0.002] * 6, abs=1e-6)
    assert whole.delta == pytest.approx(0.002, abs=1e-6)
    parts = measured(slice(0, 2), slice(2, 3))
    assert parts.alpha == pytest.approx(whole.alpha)
    assert parts.error == pytest.approx(whole.error)


def test_the_window_of_a_growth() -> None:
    ages = np.arange(1.0, 7.0) ** 2 / 1000
    steep = ErrorGrowth({}, ages, np.zeros(6), delta=0.001, alpha=0.5)
    errors = steep.predicted_errors()
    assert list(errors) == [1, 2, 3, 4, 5, 6]
    assert errors[2] == pytest.approx(predicted_error(2, 0.5, ages, np.zeros(6), 0.001))
    assert steep.window() == min(errors, key=lambda window: errors[window]) < 6
    dear = ErrorGrowth({}, ages, np.zeros(6), delta=1.0, alpha=0.5)
    assert dear.window() == 6
    met, forgetful = (ErrorGrowth({}, ages, np.zeros(6), delta=0.001, alpha=alpha) for alpha in (None, 1e-9))
    assert met.predicted_errors() == pytest.approx(forgetful.predicted_errors(), rel=1e-6)
    assert met.window() == forgetful.window() == 1
