"""Charts as inline SVG, deterministic, with text as text and colours that follow the page's light or dark theme."""

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
"""Placeholder colours for text and lines, which `svg` replaces by CSS variables. No palette has them."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#808080")
"""Okabe and Ito's palette for all kinds of colour vision, with violet in place of black, for light and dark pages."""

WIDTHS = {1: 4.6, 2: 7.6, 3: 9.0}
"""Width of a chart in inches, by the number of its columns."""

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
    """One line with an optional band from `low` to `high`; `colour` is an index of PALETTE."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One set of axes with its lines."""

    title: str
    x_label: str
    series: Sequence[Series]
    y_label: str = ""
    log: bool = False
    at: float | None = None
    """A dashed horizontal line at this y."""
    whole: bool = True
    """Whether x is a count, so that only integers are axis labels."""


@dataclass(frozen=True)
class Bar:
    """One estimate of an interval chart: its row, its group (colour), mean and interval."""

    row: str
    group: str
    mean: float
    low: float
    high: float


def svg(figure: Figure, salt: str, label: str) -> str:
    """Convert a figure to an `<svg>` element.

    Args:
        figure: The figure.
        salt: Makes element ids unique on the page and independent of the run.
        label: Description for screen readers.
    """
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
    # Matplotlib's group ids repeat in every chart of the page. Only hashed ids (clips, markers) are referred to.
    text = re.sub(r'<g id="[a-z]+(?:[23]d)?_\d+">', "<g>", text)
    return text.replace("xlink:href", "href").strip()


def _opening(label: str) -> str:
    """The replacement for the opening `<svg>` tag, with the width as a maximum and `label` for screen readers."""
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("\\", "")
    return (
        rf'<svg viewBox="0 0 \1 \2" style="max-width: calc(\1px * 1.28)" role="img" aria-label="{escaped}" '
        r'xmlns="http://www.w3.org/2000/svg">'
    )


def lines(panels: Sequence[Panel], columns: int, salt: str, label: str, height: float = 2.35) -> str:
    """Draw panels of lines in a grid, with one legend below. Returns an `<svg>` element.

    Args:
        panels: The panels.
        columns: Columns of the grid.
        salt: See `svg`.
        label: See `svg`.
        height: Height of a panel in inches.
    """
    with matplotlib.rc_context(SETTINGS):
        count = -(-len(panels) // columns)
        figure = Figure(figsize=(WIDTHS.get(columns, 9.0), height * count + 0.3), layout="constrained")
        axes = figure.subplots(count, columns, squeeze=False).ravel()
        handles: dict[str, Artist] = {}
        for ax, panel in zip(axes, panels, strict=False):
            panel_handles = _draw(ax, panel)
            # The title of a panel with one line names the line, so it needs no legend.
            if len(panel_handles) > 1:
                handles |= {name: handle for name, handle in panel_handles.items() if name not in handles}
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        if handles:
            # The page's font differs from matplotlib's, so the width of labels is estimated from their length.
            widest = 0.45 + 0.075 * max(map(len, handles))
            count = max(1, int(figure.get_figwidth() / widest))
            figure.legend(
                list(handles.values()), list(handles), loc="outside lower left", ncols=min(len(handles), count)
            )
    return svg(figure, salt, label)


def _draw(ax: Axes, panel: Panel) -> dict[str, Artist]:
    """Draw a panel and return the artist of each line by its label."""
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
    """Draw estimates with intervals, one row for each `Bar.row`, groups in different colours. Returns `<svg>`.

    Args:
        bars: The estimates.
        salt: See `svg`.
        label: See `svg`.
        x_label: Label of the x axis.
        x_limit: Range of the x axis; None to fit the data.
    """
    rows = list(dict.fromkeys(bar.row for bar in bars))
    groups = list(dict.fromkeys(bar.group for bar in bars))
    with matplotlib.rc_context({**SETTINGS, "axes.grid.axis": "x", "axes.spines.left": False}):
        height = max(0.32, 0.11 * len(groups))
        figure = Figure(figsize=(7.4, height * len(rows) + 1.0), layout="constrained")
        ax = figure.subplots()
        for number, group in enumerate(groups):
            members = [bar for bar in bars if bar.group == group]
            spacing = min(0.26, 0.8 / len(groups))
            y = [-rows.index(bar.row) + spacing * ((len(groups) - 1) / 2 - number) for bar in members]
            mean = np.array([bar.mean for bar in members])
            # Rounding errors can put a bound that equals the mean beyond it, which matplotlib rejects.
            error = [
                np.maximum(mean - [bar.low for bar in members], 0),
                np.maximum(np.array([bar.high for bar in members]) - mean, 0),
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
    """Draw bar charts of counts in a grid. Returns an `<svg>` element.

    Args:
        panels: (title, names of the bars, counts) of each chart.
        columns: Columns of the grid.
        salt: See `svg`.
        label: See `svg`.
    """
    with matplotlib.rc_context(SETTINGS):
        count = -(-len(panels) // columns)
        # Wide enough for the labels of the panel with the most text.
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
