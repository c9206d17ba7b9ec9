"""Charts as inline SVG: text stays text, colours follow the page's light or dark theme, the same bytes each time."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, RULE = "#0a0b0c", "#0d0e0f"
"""Stand-ins for the page's text and rule colours: no palette holds them, and the finished SVG names CSS variables."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#808080")
"""Okabe and Ito's colours (violet for black): told apart with any colour vision, legible on white and on black."""

WIDTHS = {1: 4.6, 2: 7.6, 3: 9.0}
"""Inches of a chart by its columns of panels."""

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.formatter.useoffset": False,
}


@dataclass(frozen=True)
class Series:
    """One line: x and y, with a band from low to high where given; `colour` counts in PALETTE."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    x_label: str
    series: Sequence[Series]
    y_label: str = ""
    log: bool = False
    at: float | None = None
    """A dashed horizontal line at this y."""
    whole: bool = True
    """Whether x counts something, so that only whole numbers are named below the axis."""


@dataclass(frozen=True)
class Bar:
    """One estimate of an interval chart: where it lies, its interval, and which colour its group has."""

    row: str
    group: str
    mean: float
    low: float
    high: float


def svg(figure: Figure, salt: str, label: str) -> str:
    """The figure as an `<svg>` element; `label` tells it to readers who cannot see it."""
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', _opening(label), text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]+", "font-family: var(--sans)", text)
    text = re.sub(r"font: ([^;\"']*?[\d.]+px) [^;\"]+", r"font: \1 var(--sans)", text)
    text = text.replace(INK, "var(--ink)").replace(RULE, "var(--rule)")
    # Element names repeat from chart to chart on one page: only the hashed ones (clips, markers) are referred to.
    text = re.sub(r'<g id="[a-z]+(?:[23]d)?_\d+">', "<g>", text)
    return text.replace("xlink:href", "href").strip()


def _opening(label: str) -> str:
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("\\", "")
    return (
        rf'<svg viewBox="0 0 \1 \2" style="max-width: calc(\1px * 1.28)" role="img" aria-label="{escaped}" '
        r'xmlns="http://www.w3.org/2000/svg">'
    )


def lines(panels: Sequence[Panel], columns: int, salt: str, label: str, height: float = 2.35) -> str:
    """Panels of lines in a grid of `columns`, with one legend below for all."""
    with matplotlib.rc_context(SETTINGS):
        count = -(-len(panels) // columns)
        figure = Figure(figsize=(WIDTHS.get(columns, 9.0), height * count + 0.3), layout="constrained")
        axes = figure.subplots(count, columns, squeeze=False).ravel()
        handles: dict[str, Artist] = {}
        for ax, panel in zip(axes, panels, strict=False):
            drawn = _draw(ax, panel)
            # A panel of one line says in its title what the line is.
            if len(drawn) > 1:
                handles |= {name: handle for name, handle in drawn.items() if name not in handles}
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        if handles:
            # Text is measured by the page's font, not this one: room for every label, in columns that fit the width.
            widest = 0.45 + 0.075 * max(map(len, handles))
            count = max(1, int(figure.get_figwidth() / widest))
            figure.legend(
                list(handles.values()), list(handles), loc="outside lower left", ncols=min(len(handles), count)
            )
    return svg(figure, salt, label)


def _draw(ax: Axes, panel: Panel) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for line in panel.series:
        colour = PALETTE[line.colour % len(PALETTE)]
        style = "--" if line.dashed else "-"
        marker = "o" if len(line.x) < 12 else ""
        (handles[line.label],) = ax.plot(line.x, line.y, style, color=colour, marker=marker, markersize=3)
        if line.low is not None and line.high is not None:
            ax.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
    if panel.at is not None:
        ax.axhline(panel.at, color=INK, linewidth=0.8, linestyle=":")
    if panel.log:
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=panel.whole))
    ax.set_title(panel.title)
    ax.set_xlabel(panel.x_label)
    ax.set_ylabel(panel.y_label)
    return handles


def intervals(bars: Sequence[Bar], salt: str, label: str, x_label: str, x_limit: tuple[float, float] | None) -> str:
    """Estimates with their intervals: one row each, groups side by side in their colours."""
    rows = list(dict.fromkeys(bar.row for bar in bars))
    groups = list(dict.fromkeys(bar.group for bar in bars))
    with matplotlib.rc_context({**SETTINGS, "axes.grid.axis": "x", "axes.spines.left": False}):
        height = max(0.32, 0.11 * len(groups))
        figure = Figure(figsize=(7.4, height * len(rows) + 1.0), layout="constrained")
        ax = figure.subplots()
        for number, group in enumerate(groups):
            mine = [bar for bar in bars if bar.group == group]
            apart = min(0.26, 0.8 / len(groups))
            y = [-rows.index(bar.row) + apart * ((len(groups) - 1) / 2 - number) for bar in mine]
            mean = np.array([bar.mean for bar in mine])
            # The bootstrap's bounds may round past a mean that they equal.
            error = [
                np.maximum(mean - [bar.low for bar in mine], 0),
                np.maximum(np.array([bar.high for bar in mine]) - mean, 0),
            ]
            colour = PALETTE[number % len(PALETTE)]
            ax.errorbar(mean, y, xerr=error, fmt="o", markersize=4, color=colour, elinewidth=1.4, label=group)
        ax.set_yticks([-number for number in range(len(rows))], rows)
        ax.set_ylim(-len(rows) + 0.4, 0.6)
        if x_limit is not None:
            ax.set_xlim(*x_limit)
        ax.set_xlabel(x_label)
        if len(groups) > 1:
            figure.legend(loc="outside lower left", ncols=len(groups))
    return svg(figure, salt, label)


def histograms(
    panels: Sequence[tuple[str, Sequence[str], Sequence[float]]], columns: int, salt: str, label: str
) -> str:
    """Bar charts of counts: (title, names of the bars, counts)."""
    with matplotlib.rc_context(SETTINGS):
        count = -(-len(panels) // columns)
        # Wide enough for the names below the bars of the most crowded panel.
        width = max(2.35, *(0.5 + 0.085 * sum(len(name) + 1 for name in names) for _, names, _ in panels))
        figure = Figure(figsize=(width * columns, 1.65 * count), layout="constrained")
        axes = figure.subplots(count, columns, squeeze=False).ravel()
        for ax, (title, names, values) in zip(axes, panels, strict=False):
            ax.bar(range(len(names)), values, color=PALETTE[0], width=0.72)
            ax.set_xticks(range(len(names)), names)
            ax.set_title(title)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
    return svg(figure, salt, label)
