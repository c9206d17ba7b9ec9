"""A policy whose actions are checked: what others write may answer anything, or not at all."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from roboalign.errors import StageError, printable
from roboalign.policies.policy import Policy, Robot
from roboalign.types import Float32, UInt8

TOLERANCE = 1e-4
"""Share of an action's range by which it may leave the range, for rounding."""

T = TypeVar("T")


class PolicyError(StageError):
    """A policy failed; the message is one line that names policy, episode and step."""


class CheckedPolicy:
    """Checks every answer of a policy, and limits its time.

    Its actions are float32 (N, A), finite and within the robot's measured range, or a PolicyError is raised. A policy
    that does not answer within the limit is left behind in its thread, which ends with the process.
    """

    def __init__(
        self, name: str, policy: Policy, robot: Robot, time_limit: float | None, *, clip: bool = False
    ) -> None:
        """Wrap a policy.

        Args:
            name: Its name in messages.
            policy: The policy.
            robot: The robot that it acts for.
            time_limit: Maximum seconds of one answer; None for no limit.
            clip: Clip actions beyond the robot's range instead of raising an error, as the controllers of robots do.
        """
        self.name, self._policy, self._robot, self._time_limit, self._clip = name, policy, robot, time_limit, clip
        self.episodes: Sequence[str] = ()
        """The names of the copies' episodes, for messages."""
        self._step = 0

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Begin N episodes. Raises PolicyError if the policy fails."""
        self._step = 0
        if len(self.episodes) != len(seeds):
            self.episodes = [str(number) for number in range(len(seeds))]
        self._call(lambda: self._policy.reset(instructions, seeds))

    def act(self, images: UInt8) -> Float32:
        """The policy's actions (N, A). Raises PolicyError if they are not valid."""
        # Copied, so that a policy that writes into its images changes nothing.
        actions = self._check(self._call(lambda: self._policy.act(images.copy())), len(images))
        self._step += 1
        return actions

    def _call(self, function: Callable[[], T]) -> T:
        """Call a function of the policy in a thread of its own, for at most the time limit."""
        if self._time_limit is None:
            return self._call_directly(function)
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                results.append(function())
            except BaseException as error:  # the policy is not trusted: SystemExit, too
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        started = time.monotonic()
        thread.start()
        thread.join(self._time_limit)
        if thread.is_alive():
            raise self._error(
                f"no answer after {time.monotonic() - started:.3g} s; make the policy faster, or raise the time limit "
                f"({self._time_limit:g} s)"
            )
        if errors:
            raise self._failure(errors[0]) from errors[0]
        return results[0]

    def _call_directly(self, function: Callable[[], T]) -> T:
        """Call a function of the policy in this thread."""
        try:
            return function()
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> PolicyError:
        """The error for an exception that the policy raised, in one line."""
        if isinstance(error, PolicyError):
            return self._error(str(error))
        return self._error(f"{type(error).__name__}: {printable(str(error))[:300]}")

    def _check(self, actions: object, count: int) -> Float32:
        """The actions as float32 (N, A). Raises PolicyError if they are of another shape or type, or out of range."""
        width = self._robot.action_width
        if not isinstance(actions, np.ndarray):
            raise self._error(f"the actions are a {type(actions).__name__}, not a numpy array; convert them")
        if actions.dtype.kind not in "fiu":
            raise self._error(f"the actions have the type {actions.dtype}; return float32")
        if actions.shape != (count, width):
            raise self._error(
                f"the actions have the shape {actions.shape}; {count} copies of {self._robot.source} need "
                f"({count}, {width})"
            )
        values = actions.astype(np.float64)
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise self._error(f"action {column} is {values[row, column]}; actions must be finite", row)
        low, high = np.asarray(self._robot.actions.low), np.asarray(self._robot.actions.high)
        slack = TOLERANCE * (high - low) + 1e-6
        if not self._clip and (outside := (values < low - slack) | (values > high + slack)).any():
            row, column = np.argwhere(outside)[0]
            raise self._error(
                f"action {column} is {values[row, column]:.4g}, outside its range of {low[column]:.4g} to "
                f"{high[column]:.4g}; clip it, or let it be clipped (`clip`)",
                row,
            )
        return np.clip(values, low, high).astype(np.float32)

    def _error(self, text: str, row: int | None = None) -> PolicyError:
        """An error that names the policy, the episode (or all of them) and the step."""
        if row is not None or len(self.episodes) == 1:
            where = f"episode {self.episodes[row or 0]}"
        else:
            where = f"episodes {self.episodes[0]} to {self.episodes[-1]}" if self.episodes else "no episode"
        return PolicyError(f"policy {self.name}, {where}, step {self._step}: {text}")
