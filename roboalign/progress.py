"""Progress of a training: a bar in a terminal, a line every ten seconds elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

INTERVAL_S = 10.0
"""Seconds between two lines if standard error is not a terminal."""

RECENT = 20
"""Number of reports from which the remaining time is estimated, so that a pause affects it for these only."""


class ProgressReporter:
    """Reports the steps of a training on standard error.

    Args:
        label: Name of the training.
        start: Steps that were taken before this process.
        steps: Number of steps in all.
    """

    def __init__(self, label: str, start: int, steps: int) -> None:
        self.label, self.steps = label, steps
        self.last_line = time.monotonic()
        self.recent = deque([(self.last_line, start)], maxlen=RECENT)
        """Time and step of the latest reports, and of the start."""
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[values]}"), console=Console(stderr=True),
            )  # fmt: skip
            self.task = self.bar.add_task(label, total=steps, completed=start, values="")
            self.bar.start()

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Report that `step` steps are done, with the latest values of the curve (the key `step` is left out)."""
        text = " ".join(f"{name} {value:.4g}" for name, value in values.items() if name != "step")
        if self.bar is not None:
            self.bar.update(self.task, completed=step, values=text)
            return
        now = time.monotonic()
        then, before = self.recent[0]
        self.recent.append((now, step))
        if now - self.last_line > INTERVAL_S or step == self.steps:
            left = (now - then) / (step - before) * (self.steps - step)
            print(
                f"[{self.label}] step {step}/{self.steps} ({100 * step // self.steps} %), {left:.0f} s left"
                f"{'; ' + text if text else ''}",
                file=sys.stderr,
                flush=True,
            )
            self.last_line = now

    def close(self) -> None:
        """Release the terminal."""
        if self.bar is not None:
            self.bar.stop()
