"""A summary as text for the terminal. Pure functions."""

from collections.abc import Iterator, Mapping, Sequence

from roboalign.errors import printable
from roboalign.sources.inspection.summary import MANY, Dimension, Summary, cut

BARS = "▁▂▃▄▅▆▇█"
BINS = 24
"""Bins of the histogram of lengths."""
WIDE = 14
"""Columns of the labels."""


def render_summary(summary: Summary) -> str:
    """All of it; control characters of names and texts come as escapes."""
    return "".join(f"{printable(line)}\n" for line in lines(summary))


def lines(summary: Summary) -> Iterator[str]:
    """Line by line."""
    yield f"{summary.source}: {summary.kind}, {summary.uri}"
    if summary.overrides:
        yield "  set by the experiment at hand over the file's own values:"
        yield from (f"    {each}" for each in summary.overrides)
    yield row("looked at", summary.looked_at)
    out = "".join(f"; {count} left out by {field}" for field, count in summary.left_out.items())
    yield row("kept", f"{summary.kept}{out}; {summary.damaged} damaged")
    if summary.lengths:
        yield from about(summary)
    yield from attributes(summary)
    if summary.damage:
        yield ""
        yield "damaged"
        yield from (f"  {each.name}: {each.reason}" for each in summary.damage)
        if summary.damaged > len(summary.damage):
            yield f"  and {summary.damaged - len(summary.damage)} more"
    yield ""
    yield "problems" if summary.problems else "no problems seen"
    yield from (f"  {problem}" for problem in summary.problems)


def about(summary: Summary) -> Iterator[str]:
    """Frames, pictures, actions, instructions and splits."""
    strided = "" if summary.fps == summary.fps_recorded else f"; with the stride {summary.frames} at {summary.fps:g}"
    yield row("frames", f"{summary.frames_recorded} at {summary.fps_recorded:g} a second{strided}")
    yield row("lengths", histogram(summary.lengths))
    sizes = ", ".join(f"{name} ({count})" for name, count in list(summary.sizes.items())[:5])
    shared = f", one of {summary.cameras} cameras in a frame" if summary.cameras > 1 else ""
    yield row("pictures", f"{sizes} → {summary.size} by {summary.fit}{shared}" if summary.fit else sizes)
    splits = ", ".join(f"{count} {name}" for name, count in summary.splits.items())
    if summary.kept:
        groups = f"; {summary.groups} groups, the largest of {summary.largest_group}" if summary.widths else ""
        yield row("splits", splits + groups)
    yield ""
    yield f"actions: {len(summary.actions)} dimensions"
    yield from actions(summary.actions, summary.quantile)
    yield ""
    without = f"; {summary.without_instruction} without one" if summary.without_instruction else ""
    yield f"instructions: {summary.instructions} different{without}"
    yield from (f"  {count:>5}  {text}" for text, count in summary.frequent.items())
    if summary.instructions > len(summary.frequent):
        yield f"         and {summary.instructions - len(summary.frequent)} more"


def row(label: str, text: str) -> str:
    """A label and its value."""
    return f"  {label:<{WIDE}}{text}"


def histogram(lengths: Mapping[int, int]) -> str:
    """Least, bars, most; and the median."""
    least, most = min(lengths), max(lengths)
    values = sorted(length for length, count in lengths.items() for _ in range(count))
    median = values[len(values) // 2]
    if least == most:
        return f"{least} frames each"
    bins = [0] * min(BINS, most - least + 1)
    for value in values:
        bins[(value - least) * len(bins) // (most - least + 1)] += 1
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // max(bins))] if count else " " for count in bins)
    return f"{least} {bars} {most} frames, median {median}"


def actions(dimensions: Sequence[Dimension], quantile: float) -> Iterator[str]:
    """A table, a line a dimension."""
    head = ("min", f"{quantile:.0%}", "50%", f"{1 - quantile:.0%}", "max")
    wide = max((len(each.name) for each in dimensions), default=0)
    yield "  " + " " * wide + "".join(f"{text:>11}" for text in head) + "   far out"
    for each in dimensions:
        figures = (each.minimum, each.low, each.median, each.high, each.maximum)
        note = "constant" if each.values == 1 else f"{each.values} values" if each.values < 9 else ""
        far = f"{each.far_out:.2%}" if each.far_out else "-"
        yield f"  {each.name:<{wide}}" + "".join(f"{value:>11.4g}" for value in figures) + f"{far:>10}  {note}".rstrip()


def attributes(summary: Summary) -> Iterator[str]:
    """The attributes that filters and scenes can name."""
    if not summary.attributes:
        return
    yield ""
    yield f"attributes: {len(summary.attributes)}"
    wide = min(40, max(len(key) for key in summary.attributes))
    listed = list(summary.attributes.items())
    for key, found in listed[: 3 * MANY]:
        shown = " | ".join(cut(text, 60 if found.different > 1 else 100) for text in found.examples)
        yield f"  {key:<{wide}}  {found.different:>4} different: {shown}"
    if len(listed) > 3 * MANY:
        yield f"  and {len(listed) - 3 * MANY} more; --json lists them"
