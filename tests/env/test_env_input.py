"""Actions of hostile policies and options of `reset`: one clear line, and nothing has changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from roboalign.env import EnvError, WorldModelEnv, WorldModelVectorEnv
from roboalign.env.actions import ActionScale
from roboalign.store import ActionRange

SCALE = ActionScale("fetch", ActionRange((-0.5, 0.0, 0.2), (1.0, 0.0, 0.6)), normalized=False)
NORMALIZED = ActionScale("fetch", SCALE.limits, normalized=True)


@pytest.fixture(scope="module")
def envs(experiment: Path) -> WorldModelVectorEnv:
    made = WorldModelVectorEnv(2, experiment=experiment, source="fetch", reward="none", probe=None)
    made.reset(seed=0)
    return made


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.full((2, 4), np.nan), "dimension 0 of the action of copy 0 of fetch is nan; it must be finite"),
        ([[0, 0, 0, 0], [0, 0, np.inf, 0]], "dimension 2 of the action of copy 1 of fetch is inf"),
        (np.zeros((2, 3)), r"must have the shape \(2, 4\), not \(2, 3\)"),
        (np.zeros(4), r"must have the shape \(2, 4\), not \(4,\)"),
        (0.0, r"must have the shape \(2, 4\), not \(\)"),
        (None, "must be real numbers, not of dtype object"),
        ([["a"] * 4] * 2, "must be real numbers, not of dtype <U1"),
        (np.zeros((2, 4), complex), "must be real numbers, not of dtype complex128"),
        (np.zeros((2, 4), bool), "must be real numbers, not of dtype bool"),
        ([[0, 0], [0, 0, 0, 0]], "cannot be read as an array"),
        ({"action": 1}, "must be real numbers, not of dtype object"),
    ],
)
def test_actions_that_are_not_actions_end_in_one_line(envs: WorldModelVectorEnv, actions: Any, message: str) -> None:
    with pytest.raises(EnvError, match=message) as raised:
        envs.step(actions)
    assert "\n" not in str(raised.value)
    assert envs.steps.tolist() == [0, 0]


def test_a_single_environment_names_its_own_shape(experiment: Path) -> None:
    env = WorldModelEnv(experiment=experiment, source="fetch", reward="none", probe=None)
    env.reset(seed=0)
    with pytest.raises(EnvError, match=r"must have the shape \(4,\), not \(1, 4\)"):
        env.step(np.zeros((1, 4)))
    with pytest.raises(EnvError, match="dimension 3 of the action of fetch is nan"):
        env.step([0, 0, 0, np.nan])


@settings(deadline=None)
@given(arrays.arrays(np.float64, (2, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_any_finite_action_is_clipped_to_the_measured_range(values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    checked = SCALE.check(values, (2, 3))
    inside = SCALE.to_source(checked)
    assert all(row in SCALE.space for row in inside)
    model = SCALE.to_model(checked)
    assert np.abs(model).max() <= 1
    assert (model[:, 1] == 0).all(), "a dimension that never varies"
    np.testing.assert_array_equal(SCALE.to_model(inside), model)
    scaled = NORMALIZED.to_source(NORMALIZED.check(model, (2, 3)))
    np.testing.assert_allclose(scaled, inside, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episode": ["fetch/000000"] * 2}, "unknown option 'episode' of reset; did you mean 'episodes'"),
        ({"when": 1}, "unknown option 'when' of reset; there are episodes, images"),
        ({"episodes": ["fetch/000000"]}, "one item for each of the 2 copies"),
        ({"episodes": "ab"}, "one item for each of the 2 copies"),
        ({"episodes": ["fetch/9", None]}, "fetch has no episode 'fetch/9'; it has fetch/000000"),
        ({"episodes": [3, None]}, "no episode 3"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8)}, "instructions of reset must have one item"),
        ({"images": np.zeros((2, 32, 32, 3)), "instructions": ["a", "b"]}, "an image must be uint8 of shape"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8), "instructions": ["a", "b"]}, "an image must be uint8 of shape"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8), "instructions": ["a", "\0"]}, "is not an instruction"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8), "instructions": ["a", "b" * 1001]}, "is not an instruction"),
        ({"instructions": ["a", "b"]}, "belong to images"),
        ({"episodes": [None] * 2, "images": np.zeros((2, 32, 32, 3), np.uint8)}, "not both"),
        ({"reset_mask": np.array([False, False])}, "at least one True"),
        ({"reset_mask": [1, 0]}, "of bool"),
    ],
)
def test_options_that_do_not_fit_are_named(envs: WorldModelVectorEnv, options: Any, message: str) -> None:
    before = envs.scenes[:]
    with pytest.raises(EnvError, match=message):
        envs.reset(options=options)
    assert envs.scenes == before


@pytest.mark.parametrize("seed", [-1, 2**63, "a", [1], [1, -1], [1, 0.5], 1.5])
def test_seeds_that_are_none_are_named(envs: WorldModelVectorEnv, seed: Any) -> None:
    with pytest.raises(EnvError, match="seed"):
        envs.reset(seed=seed)


def test_a_single_environments_options_are_in_the_singular(experiment: Path) -> None:
    env = WorldModelEnv(experiment=experiment, source="fetch", reward="none", probe=None)
    with pytest.raises(EnvError, match="unknown option 'episodes' of reset; did you mean 'episode'"):
        env.reset(options={"episodes": ["fetch/000000"]})
    _, info = env.reset(options={"episode": "fetch/000003"})
    assert info["episode"] == "fetch/000003"
