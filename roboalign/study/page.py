"""The table and the plot of a study, for docs/results/."""

from collections.abc import Sequence
from typing import Any

from roboalign.report.plots import Bar, intervals

OUTCOMES = {
    "position_error_cm": "position error, cm",
    "psnr": "PSNR, dB",
    "false_success": "false success",
    "missed_success": "missed success",
}
"""Outcomes in tables, with their headings."""

STYLE = (
    "<style>:root { --sans: sans-serif; --ink: #1a1a1a; --rule: #c8c8c8 } "
    "@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --rule: #555 } }</style>"
)
"""The style that the report's page defines, for a plot outside of it."""


def interval(value: dict[str, Any] | None) -> str:
    """A difference with its interval, `+.39 [.17, .62]`; bold if the interval excludes 0, `n/a` for None."""
    if value is None:
        return "n/a"
    text = f"{_digits(value['mean'], sign=True)} [{_digits(value['low'])}, {_digits(value['high'])}]"
    return f"**{text}**" if value["low"] > 0 or value["high"] < 0 else text


def _digits(value: float, *, sign: bool = False) -> str:
    """A number with two decimals, without a leading zero."""
    text = f"{value:+.2f}" if sign else f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def markdown(name: str, summary: dict[str, Any]) -> str:
    """The Markdown page of a study: for each comparison, a table of the runs, and the reference against the others; the
    gates over all runs."""
    gains = [gain for run in summary["runs"].values() for gain in run["gains"].values()]
    scorers = list(dict.fromkeys(scorer for gain in gains for scorer in gain["scorers"]))
    titles = [scorer.replace("_", " ") for scorer in scorers]
    parts = [
        f"# {summary['question']}",
        f"`{summary['command']}` at revision {summary['revision']}, experiment `{summary['experiment']}`; the values "
        f"are in [{name}.json]({name}.json). Differences are paired by episode, with 95 % intervals over episodes; "
        f"those whose interval excludes 0 are bold. Scores are totals of 10.",
        f"![The gains of each run, by scorer]({name}.svg)",
    ]
    if summary.get("not_run"):
        parts.insert(2, f"Declared, and not run: {', '.join(summary['not_run'])}.")
    for comparison in next(iter(summary["runs"].values()))["gains"]:
        rows = []
        for run, result in summary["runs"].items():
            gain = result["gains"][comparison]
            cells = [interval(gain["scorers"].get(scorer)) for scorer in scorers]
            rows.append([run, *cells, *(interval(gain["outcomes"].get(outcome)) for outcome in OUTCOMES)])
        if comparison in summary.get("pooled", {}):
            pool = summary["pooled"][comparison]
            cells = [interval(pool["scorers"].get(scorer)) for scorer in scorers]
            rows.append(["all runs", *cells, *(interval(pool["outcomes"].get(outcome)) for outcome in OUTCOMES)])
        parts += [f"## {comparison}", _table(["run", *titles, *OUTCOMES.values()], rows)]
        others = {run: by[comparison] for run, by in summary.get("reference_less_others", {}).items()}
        if others:
            rows = [[run, *(interval(by.get(scorer)) for scorer in scorers)] for run, by in others.items()]
            parts.append(_table([f"{summary['reference']} less", *titles], rows))
    if summary.get("gates"):
        rows = [
            [name, each["rule"], "passed" if each["passed"] else "failed"] for name, each in summary["gates"].items()
        ]
        rows += [[name, need, "not measured"] for name, need in summary["gates_not_measured"].items()]
        parts += ["## Gates over all runs", _table(["gate", "rule", "result"], rows)]
    return "\n\n".join(parts) + "\n"


def plot(name: str, summary: dict[str, Any]) -> str:
    """The gains of each run in the first comparison by scorer, as an SVG file."""
    comparison = next(iter(next(iter(summary["runs"].values()))["gains"]))
    bars = [
        Bar(run, scorer.replace("_", " "), value["mean"], value["low"], value["high"])
        for run, result in summary["runs"].items()
        for scorer, value in result["gains"][comparison]["scorers"].items()
    ]
    text = intervals(bars, name, summary["question"], f"total, {comparison}", None)
    opening, rest = text.split(">", 1)
    return f"{opening}>{STYLE}{rest}\n"
