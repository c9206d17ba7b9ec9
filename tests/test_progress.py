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
