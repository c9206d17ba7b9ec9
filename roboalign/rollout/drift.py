"""How errors grow in a rollout, and the window that this predicts (paper, Proposition 1). Pure functions of numbers.

Errors are root mean squared pixel differences. With n the age of the context in frames, one frame turns the error e
into alpha e + epsilon(n); a refresh adds delta and sets n back. What a viewer sees is e on top of the codec's own
error under a context of that age, floor(n). The paper's bound has one epsilon for all ages.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def epsilon(one_step: ArrayLike, floor: ArrayLike) -> Floats:
    """The error that one predicted frame adds: its error under true tokens less the codec's, at least 0; any shape."""
    return np.maximum(np.asarray(one_step, np.float64) - np.asarray(floor, np.float64), 0.0)


def every_age(values: Mapping[int, float], horizon: int) -> Floats:
    """Interpolate values measured at some ages (from 1) to all ages up to `horizon`: linear, constant outside."""
    ages = sorted(values)
    return np.interp(np.arange(1, horizon + 1), ages, [values[age] for age in ages])


def contraction(divergence: ArrayLike) -> float | None:
    """alpha, from the divergence (pairs, steps) of paired rollouts: the factor a step by which its mean changes.

    It is the exponential of the slope of the log mean divergence over steps (least squares). None if a mean is 0:
    the pairs have met, and no factor describes that.
    """
    means = np.asarray(divergence, np.float64).mean(0)
    if means.size < 2 or (means <= 0).any():
        return None
    slope = np.polyfit(np.arange(means.size), np.log(means), 1)[0]
    return float(np.exp(slope))


def bound(window: int, alpha: float, error: float, delta: float) -> float | None:
    """Proposition 1 for SWR: W eps + (W eps + delta) / (1 - alpha^W). None, no bound, where alpha is 1 or more."""
    if alpha >= 1:
        return None
    return window * error + (window * error + delta) / (1 - alpha**window)


def bound_autoregressive(alpha: float, error: float) -> float | None:
    """The worst case of plain autoregression, eps / (1 - alpha). None if alpha is 1 or more."""
    return None if alpha >= 1 else error / (1 - alpha)


def error_path(window: int, alpha: float, error: ArrayLike, delta: float) -> Floats:
    """The error of each frame by the recursion, (T,), with a refresh every `window` frames.

    `error` holds epsilon(n) for ages n = 1 … T. A window of T frames or more is plain autoregression.
    """
    steps = np.asarray(error, np.float64)
    path, value = np.empty_like(steps), 0.0
    for frame in range(steps.size):
        age = frame % window
        if age == 0 and frame > 0:
            value += delta
        value = alpha * value + steps[age]
        path[frame] = value
    return path


def predicted_error(window: int, alpha: float, error: ArrayLike, floor: ArrayLike, delta: float) -> float:
    """The mean error over the frames that the recursion predicts, the codec's floor(n) for ages n = 1 … T included."""
    levels = np.asarray(floor, np.float64)
    path = error_path(window, alpha, error, delta)
    return float((path + levels[np.arange(path.size) % window]).mean())


def predicted_error_independent(window: int, alpha: float, error: ArrayLike, floor: ArrayLike, delta: float) -> float:
    """The mean error as `predicted_error`, for errors that are independent of each other (our choice).

    Root mean squares of independent errors add as squares, not as lengths; the sum of lengths is their worst case.
    """
    squares, levels = np.square(np.asarray(error, np.float64)), np.asarray(floor, np.float64)
    path = error_path(window, alpha**2, squares, delta**2)
    return float(np.sqrt(path + levels[np.arange(path.size) % window] ** 2).mean())


def best_window(errors: Mapping[int, float]) -> int:
    """The window with the smallest error; of equals the widest, which costs the fewest refreshes."""
    return min(errors, key=lambda window: (errors[window], -window))


def closed_form_window(alpha: float, error: float, delta: float) -> float | None:
    """W* of about sqrt(2 delta / (3 eps lambda)), lambda = -ln alpha. None if alpha is not between 0 and 1."""
    if not 0 < alpha < 1 or error <= 0:
        return None
    return math.sqrt(2 * delta / (3 * error * -math.log(alpha)))


def rows(
    windows: Sequence[int],
    alpha: float,
    error: Floats,
    floor: Floats,
    delta: float,
    measured: Mapping[int, Floats],
) -> list[dict[str, object]]:
    """The curves by frame: epsilon and floor at that age of the context, then of each window the error with its floor,
    as the recursion predicts it and as it was measured. The column `series` names the window, `w6`."""
    result: list[dict[str, object]] = [
        {"frame": frame + 1, "series": "", "epsilon": float(error[frame]), "floor": float(floor[frame])}
        for frame in range(error.size)
    ]
    for window in windows:
        path = error_path(window, alpha, error, delta)
        result += [
            {
                "frame": frame + 1,
                "series": f"w{window}",
                "predicted": float(path[frame] + floor[frame % window]),
                "measured": float(measured[window][frame]),
            }
            for frame in range(path.size)
        ]
    return result
