"""Limits of requests to a paid server: rate, number and cost."""

import time
from dataclasses import dataclass, field

from roboalign.judge.chat_completions import JudgeServerError, TokenUsage


class BudgetExceededError(JudgeServerError):
    """The cap on cost or requests is reached."""


class RateLimiter:
    """Spaces the starts of requests evenly: `requests_per_minute`, or as fast as they come if None."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0

    def take(self) -> float:
        """0 if a request may start now, which then counts as started; else the seconds to wait before asking again."""
        now = time.monotonic()
        if self._next > now:
            return self._next - now
        self._next = now + self._interval_s
        return 0.0

    def pause(self, seconds: float) -> None:
        """Let no request start for `seconds`: the server asked for it."""
        self._next = max(self._next, time.monotonic() + seconds)


@dataclass
class Spending:
    """The requests, tokens and cost of a judge so far, and their limits.

    Args:
        input_price: Currency units per million input tokens.
        output_price: Currency units per million output tokens.
        max_cost: Cap in currency units, or None.
        max_requests: Cap on requests, or None.
    """

    input_price: float
    output_price: float
    max_cost: float | None
    max_requests: int | None
    cached_answers: int = 0
    """Answers taken from the cache."""
    requests: int = 0
    """Requests started, failed ones and retries included."""
    input_tokens: int = 0
    output_tokens: int = 0
    _in_flight: int = field(default=0, repr=False)
    _dearest: float | None = field(default=None, repr=False)

    @property
    def cost(self) -> float:
        """Cost in currency units of the tokens that the server has reported."""
        return self._price(self.input_tokens, self.output_tokens)

    def _price(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6

    def may_start(self) -> bool:
        """Whether a request may start now; if not, one must end first. Raises BudgetExceededError at a cap.

        Under a cost cap, requests under way are taken to cost as much as the dearest one so far, and the first one
        goes alone: the cap is exceeded by at most about the price of one request.
        """
        if self.max_requests is not None and self.requests >= self.max_requests:
            raise BudgetExceededError(
                f"{self.requests} requests were made, which is the cap judge.max_requests ({self.max_requests}); "
                "raise it or run again"
            )
        if self.max_cost is None:
            return True
        if self.cost >= self.max_cost:
            raise BudgetExceededError(
                f"the requests so far cost {self.cost:.6g}, which reaches the cap judge.max_cost ({self.max_cost:g}); "
                "raise it or run again"
            )
        if not self._in_flight:
            return True
        return self._dearest is not None and self.cost + self._in_flight * self._dearest < self.max_cost

    def start(self) -> None:
        """Count a request that starts."""
        self.requests += 1
        self._in_flight += 1

    def end(self, *, sent: bool) -> None:
        """Count a request that has ended, well or not; one that was not sent after all no longer counts."""
        self._in_flight -= 1
        self.requests -= not sent

    def add(self, usage: TokenUsage | None) -> None:
        """Count the tokens of a response. Raises JudgeServerError if a cost cap needs them and there are none."""
        if usage is None:
            if self.max_cost is not None:
                raise JudgeServerError(
                    "the server reports no token usage, without which judge.max_cost cannot be kept; "
                    "set it to null and limit judge.max_requests instead"
                )
            return
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self._dearest = max(self._dearest or 0.0, self._price(usage.input_tokens, usage.output_tokens))
