import io
import sys

import pytest

from roboalign import progress
from roboalign.progress import ProgressReporter


def test_a_pipe_gets_a_line_at_intervals_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 11.0, 13.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    reporter = ProgressReporter("student", start=10, steps=14)
    for step in range(11, 15):
        reporter.report(step, {"step": step, "loss": 0.5})
    reporter.close()
    assert capsys.readouterr().err.splitlines() == [
        "[student] step 12/14 (85 %), 11 s left; loss 0.5",
        "[student] step 14/14 (100 %), 0 s left; loss 0.5",
    ]


def test_a_pause_affects_the_remaining_time_for_a_while_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [0.0, *(1000.0 + 12 * step for step in range(1, 41))]  # steps of 12 s after a pause of 1,000 s
    clock = iter(times)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    reporter = ProgressReporter("rl", start=0, steps=50)
    for step in range(1, 41):
        reporter.report(step, {})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[rl] step 1/50 (2 %), 49588 s left"
    assert lines[-1] == "[rl] step 40/50 (80 %), 120 s left"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    reporter = ProgressReporter("world_model", start=0, steps=5)
    for step in range(1, 6):
        reporter.report(step, {"step": step, "loss": 0.25})
    reporter.close()
    shown = terminal.getvalue()
    assert "world_model" in shown
    assert "5/5" in shown
    assert "loss 0.25" in shown
    assert "step 5/5" not in shown
