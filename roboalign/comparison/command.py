"""`python -m roboalign diff A B`: prints the differences of two runs, and writes them as a page."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from roboalign.comparison.changes import Comparison, FieldChange, compare
from roboalign.comparison.snapshot import ComparisonError, open_snapshot
from roboalign.io import round_floats
from roboalign.study.experiments import StudyError

SHOWN = 12
"""Number of scores and of metrics that the text names; JSON and the page have all."""


def run(root: Path, a: str, b: str, as_json: bool, html: Path | None) -> int:
    """Print the comparison, write the page to the folder `html` if it is given, and return the exit code."""
    try:
        snapshots = open_snapshot(root, a), open_snapshot(root, b)
        found = compare(*snapshots)
        if html is not None:
            from roboalign.comparison.page import write_comparison

            write_comparison(html, found, snapshots)
    except (ComparisonError, StudyError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ComparisonError) else 1
    if as_json:
        print(json.dumps(round_floats(asdict(found) | {"verdict": found.verdict}), indent=2, sort_keys=True))
    else:
        print(describe(found))
    if html is not None:
        print(f"{html / 'index.html'}", file=sys.stderr)
    return 0


def describe(found: Comparison) -> str:
    """The comparison as text, significant differences first."""
    lines = [f"A: {found.a}", f"B: {found.b}", f"verdict: {found.verdict}", "", "changed fields"]
    lines += [line for change in found.fields for line in _field(change)] or ["  none"]
    lines += ["", "changed code"]
    lines += [f"  {folder}: {count} file{'s'[: count != 1]}" for folder, count in found.code.items()] or ["  none"]
    scores = sorted(found.scores, key=lambda change: (change.is_noise, -abs(change.mean)))
    if scores:
        lines += ["", "total scores, B minus A, paired by episode (95 % interval; p by Wilcoxon and Holm)"]
        for change in scores[:SHOWN]:
            verdict = "noise" if change.is_noise else "more than noise"
            lines.append(
                f"  {change.model}, {change.scorer}: {change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}], "
                f"n = {change.n}, p = {change.p:.2g}: {verdict}"
            )
        lines += _rest(len(scores))
    metrics = sorted(found.metrics, key=lambda change: -abs(change.after - change.before) / (change.margin or 1e-12))
    moved = [change for change in metrics if not change.is_noise]
    if metrics:
        lines += [
            "",
            f"other metrics with intervals: {len(moved)} of {len(metrics)} changed beyond their margin, unpaired",
        ]
        lines += [
            f"  {change.metric}: {change.before:.4g} → {change.after:.4g} (± {change.margin:.2g})"
            for change in moved[:SHOWN]
        ]
        lines += _rest(len(moved))
    return "\n".join([*lines, "", *found.notes])


def _field(change: FieldChange) -> list[str]:
    readers = f"  (read by {', '.join(change.stages)})" if change.stages else ""
    line = f"  {change.field} {change.change}{readers}"
    return [line, f"    {change.meaning}"] if change.meaning else [line]


def _rest(count: int) -> list[str]:
    return [f"  … and {count - SHOWN} more; --json lists all"] if count > SHOWN else []
