"""Charts as inline SVG, deterministic, with text as text and colours that follow the page's light or dark theme.

Every panel is an SVG of its own, so that panels wrap on narrow screens and keep the size of their text.
"""

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from roboalign.report.blocks import Chart, LegendEntry

INK, RULE = "#0a0b0c", "#0d0e0f"
"""Placeholder colours for text and lines, which `svg` replaces by CSS variables. No palette has them."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#9a6fc4", "#808080")
"""Okabe and Ito's palette for all kinds of colour vision, with violet in place of black, for light and dark pages."""

SOLID = 4
"""Number of colours with solid lines; lines of later colours are dashed, so that neighbours differ in two ways."""

PANEL = (3.5, 2.25)
"""Width and height of a panel in inches."""

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


def line_chart(caption: str, panels: Sequence[Panel], salt: str, fields: Sequence[str] = (), note: str = "") -> Chart:
    """A chart of lines, one SVG for each panel.

    Args:
        caption: The caption; with a panel's title it is the panel's description for screen readers.
        panels: The panels.
        salt: See `svg`.
        fields: The spec fields behind the chart.
        note: The note below the chart.
    """
    drawn = []
    for number, panel in enumerate(panels):
        with matplotlib.rc_context(SETTINGS):
            figure = Figure(figsize=PANEL, layout="constrained")
            _draw(figure.subplots(), panel)
        drawn.append(svg(figure, f"{salt}{number}", f"{caption}: {panel.title}"))
    # The title of a panel with one line names the line, so it needs no legend.
    named = {line.label: line for panel in panels if len(panel.series) > 1 for line in panel.series}
    legend = [LegendEntry(label, PALETTE[line.colour % len(PALETTE)], is_dashed(line)) for label, line in named.items()]
    return Chart(caption, drawn, legend, fields=fields, note=note)


def is_dashed(line: Series) -> bool:
    """Whether a line is dashed, by itself or by its colour."""
    return line.dashed or line.colour % len(PALETTE) >= SOLID


def _draw(ax: Axes, panel: Panel) -> None:
    """Draw a panel."""
    for line in panel.series:
        colour = PALETTE[line.colour % len(PALETTE)]
        style = (0, (3.2, 1.4)) if is_dashed(line) else "-"
        marker = "o" if len(line.x) < 12 else ""
        ax.plot(line.x, line.y, linestyle=style, color=colour, marker=marker, markersize=3)
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
    caption: str, panels: Sequence[tuple[str, Sequence[str], Sequence[float]]], salt: str, fields: Sequence[str] = ()
) -> Chart:
    """A chart of counts, one SVG for each panel.

    Args:
        caption: The caption; with a panel's title it is the panel's description for screen readers.
        panels: (title, names of the bars, counts) of each panel.
        salt: See `svg`.
        fields: The spec fields behind the chart.
    """
    drawn = []
    for index, (title, names, values) in enumerate(panels):
        with matplotlib.rc_context(SETTINGS):
            figure = Figure(figsize=(PANEL[0], 1.8), layout="constrained")
            ax = figure.subplots()
            ax.bar(range(len(names)), values, color=PALETTE[0], width=0.72)
            crowded = sum(len(name) + 1 for name in names) > 32
            ax.set_xticks(range(len(names)), names, rotation=20 if crowded else 0, ha="right" if crowded else "center")
            ax.set_title(title)
        drawn.append(svg(figure, f"{salt}{index}", f"{caption}: {title}"))
    return Chart(caption, drawn, fields=fields)


@dataclass(frozen=True)
class RadarPanel:
    """One radar chart: the value of each series on each axis, as a fraction of the maximum in [0, 1]."""

    title: str
    axes: Sequence[str]
    series: Sequence[tuple[str, Sequence[float]]]


def radar_chart(caption: str, panels: Sequence[RadarPanel], salt: str, fields: Sequence[str] = ()) -> Chart:
    """Radar charts with a common legend; equal labels have equal colours in all panels.

    Args:
        caption: The caption; with a panel's title it is the panel's description for screen readers.
        panels: The panels.
        salt: See `svg`.
        fields: The spec fields behind the chart.
    """
    labels = list(dict.fromkeys(label for panel in panels for label, _ in panel.series))
    drawn = []
    for number, panel in enumerate(panels):
        angles = np.linspace(0, 2 * np.pi, len(panel.axes), endpoint=False)
        with matplotlib.rc_context({**SETTINGS, "axes.grid.axis": "both"}):
            figure = Figure(figsize=(PANEL[0], 3.1), layout="constrained")
            ax = figure.add_subplot(projection="polar")
            for label, values in panel.series:
                index = labels.index(label)
                style = (0, (3.2, 1.4)) if index >= SOLID else "-"
                colour = PALETTE[index % len(PALETTE)]
                closed = [*values, values[0]]
                ax.plot([*angles, angles[0]], closed, color=colour, linestyle=style)
                ax.fill([*angles, angles[0]], closed, color=colour, alpha=0.06, linewidth=0)
            ax.set_xticks(angles, [textwrap.fill(name, 13) for name in panel.axes], fontsize=7.5)
            ax.set_ylim(0, 1)
            ax.set_yticks([0.25, 0.5, 0.75, 1.0], ["", ".5", "", "1"], fontsize=7)
            ax.tick_params(axis="x", pad=9)
            ax.set_title(panel.title, pad=12)
        drawn.append(svg(figure, f"{salt}{number}", f"{caption}: {panel.title}"))
    legend = [LegendEntry(label, PALETTE[i % len(PALETTE)], i >= SOLID) for i, label in enumerate(labels)]
    return Chart(caption, drawn, legend, fields=fields)


def scatter_chart(
    caption: str,
    panels: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    salt: str,
    y_label: str,
    fields: Sequence[str] = (),
    note: str = "",
) -> Chart:
    """Scatter plots of points with the diagonal of equality.

    Args:
        caption: The caption; with a panel's title it is the panel's description for screen readers.
        panels: (title, label of the x axis, points (x, y)) of each panel.
        salt: See `svg`.
        y_label: Label of all y axes.
        fields: The spec fields behind the chart.
        note: The note below the chart.
    """
    drawn = []
    for number, (title, x_label, points) in enumerate(panels):
        x, y = [p[0] for p in points], [p[1] for p in points]
        with matplotlib.rc_context({**SETTINGS, "axes.grid.axis": "both"}):
            figure = Figure(figsize=(PANEL[0], 3.0), layout="constrained")
            ax = figure.subplots()
            low, high = min(*x, *y), max(*x, *y)
            ax.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=":")
            ax.plot(x, y, "o", color=PALETTE[0], markersize=3, alpha=0.45, markeredgewidth=0)
            ax.set_title(title)
            ax.set_xlabel(x_label)
            ax.set_ylabel(y_label)
        drawn.append(svg(figure, f"{salt}{number}", f"{caption}: {title}"))
    return Chart(caption, drawn, fields=fields, note=note)
