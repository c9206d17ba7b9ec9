"""Hostile policies: one clear line that names policy, episode and step."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from policy_fakes import ROBOT, DotsEnv

from roboalign.policies.adapters import FunctionPolicy
from roboalign.policies.checked_policy import CheckedPolicy, PolicyError
from roboalign.policies.closed_loop import run_closed_loop

GOOD = np.tile(np.array([[0.5, 1.0]], np.float32), (2, 1))


def with_value(value: float) -> np.ndarray:
    actions = GOOD.copy()
    actions[1, 1] = value
    return actions


def fail(message: str) -> None:
    raise RuntimeError(message)


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "nan": (lambda: with_value(np.nan), "action 1 is nan; actions must be finite"),
    "infinite": (lambda: with_value(np.inf), "action 1 is inf"),
    "out of range": (
        lambda: with_value(2.5),
        "action 1 is 2.5, outside its range of -2 to 2; clip it, or let it be clipped",
    ),
    "wrong shape": (lambda: GOOD[:, :1], r"shape \(2, 1\); 2 copies of toy need \(2, 2\)"),
    "one copy": (lambda: GOOD[0], r"shape \(2,\)"),
    "objects": (lambda: GOOD.astype(object), "type object"),
    "texts": (lambda: GOOD.astype(str), "type <U"),
    "complex": (lambda: GOOD.astype(complex), "type complex128"),
    "a list": (lambda: GOOD.tolist(), "a list, not a numpy array"),
    "nothing": (lambda: None, "a NoneType"),
    "exception": (lambda: fail("the weights\nare missing"), r"RuntimeError: the weights\\nare missing"),
    "exit": (lambda: exit(3), "SystemExit"),
    "slow": (lambda: time.sleep(5), r"no answer after .* raise the time limit \(0.3 s\)"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_policy_ends_in_one_line(kind: str) -> None:
    answer, message = HOSTILE[kind]
    calls = iter(range(10))

    def act(images: Any, instructions: Any) -> Any:
        return GOOD if next(calls) < 2 else answer()

    policy = CheckedPolicy("mine", FunctionPolicy(act), ROBOT, 0.3)
    with pytest.raises(PolicyError, match=message) as caught:
        run_closed_loop(policy, DotsEnv(2), ["toy/000003", "toy/000007"], [0, 1], 5)
    text = str(caught.value)
    row = "episode toy/000007" if "action 1" in message else "episodes toy/000003 to toy/000007"
    assert text.startswith(f"policy mine, {row}, step 2: ")
    assert "\n" not in text


@pytest.mark.parametrize("kind", ["nan", "wrong shape", "exception"])
def test_without_a_limit_the_checks_are_the_same(kind: str) -> None:
    answer, message = HOSTILE[kind]
    policy = CheckedPolicy("mine", FunctionPolicy(lambda images, texts: answer()), ROBOT, None)
    with pytest.raises(PolicyError, match=f"policy mine, .*, step 0: .*{message}"):
        run_closed_loop(policy, DotsEnv(2), ["toy/000003", "toy/000007"], [0, 1], 5)


def test_without_a_limit_a_policy_runs_in_this_thread() -> None:
    threads: list[int] = []

    def act(images: Any, instructions: Any) -> Any:
        threads.append(threading.get_ident())
        return GOOD

    policy = CheckedPolicy("mine", FunctionPolicy(act), ROBOT, None)
    policy.reset(["a", "b"], [0, 1])
    policy.act(np.zeros((2, 4, 4, 3), np.uint8))
    assert threads == [threading.get_ident()]


def test_an_exception_in_reset_names_the_first_step() -> None:
    class Broken:
        def reset(self, instructions: Any, seeds: Any) -> None:
            raise KeyError("goal")

        def act(self, images: Any) -> Any:
            return GOOD

    policy = CheckedPolicy("mine", Broken(), ROBOT, 1.0)
    with pytest.raises(PolicyError, match="step 0: KeyError"):
        run_closed_loop(policy, DotsEnv(1), ["toy/000003"], [0], 1)


def test_valid_actions_of_other_types_are_converted_and_rounding_is_forgiven() -> None:
    for actions in (GOOD.astype(np.float64), np.array([[1, 2], [0, -2]], np.int64), with_value(2.0001)):
        policy = CheckedPolicy(
            "mine", FunctionPolicy(partial(lambda answer, images, texts: answer, actions)), ROBOT, 1.0
        )
        policy.reset(["a", "b"], [0, 1])
        answer = policy.act(np.zeros((2, 4, 4, 3), np.uint8))
        assert answer.dtype == np.float32
        assert (answer <= 2).all()


def test_actions_beyond_the_range_are_clipped_if_the_user_wants_that() -> None:
    for value, clipped in ((2.5, 2.0), (-1e9, -2.0), (np.nan, None)):
        answer = with_value(value)
        policy = CheckedPolicy(
            "mine", FunctionPolicy(partial(lambda given, images, texts: given, answer)), ROBOT, 1.0, clip=True
        )
        policy.reset(["a", "b"], [0, 1])
        if clipped is None:
            with pytest.raises(PolicyError, match="action 1 is nan"):
                policy.act(np.zeros((2, 4, 4, 3), np.uint8))
        else:
            np.testing.assert_array_equal(policy.act(np.zeros((2, 4, 4, 3), np.uint8)), [GOOD[0], [0.5, clipped]])


def test_a_policy_cannot_change_the_images() -> None:
    def act(images: Any, instructions: Any) -> Any:
        images[:] = 7
        return GOOD

    images = np.zeros((2, 4, 4, 3), np.uint8)
    policy = CheckedPolicy("mine", FunctionPolicy(act), ROBOT, 1.0)
    policy.reset(["a", "b"], [0, 1])
    policy.act(images)
    assert not images.any()
