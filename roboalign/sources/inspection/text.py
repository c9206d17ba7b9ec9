"""Formats a summary for the terminal. Pure functions."""

from collections.abc import Iterator, Mapping, Sequence

from roboalign.errors import printable
from roboalign.sources.inspection.summary import MANY, Dimension, Summary, shorten

BARS = "▁▂▃▄▅▆▇█"
BINS = 24
"""Number of bins of the histogram of lengths."""
WIDE = 14
"""Width of the labels in characters."""


def render_summary(summary: Summary) -> str:
    """Return the summary as text, with control characters of names and texts escaped."""
    return "".join(f"{printable(line)}\n" for line in summary_lines(summary))


def summary_lines(summary: Summary) -> Iterator[str]:
    """Yield the lines of a summary."""
    yield f"{summary.source}: {summary.kind}, {summary.uri}"
    if summary.overrides:
        yield "  values that the current experiment sets in place of those of the file:"
        yield from (f"    {each}" for each in summary.overrides)
    yield format_row("inspected", summary.selection)
    left_out = "".join(f"; {count} left out by {field}" for field, count in summary.left_out.items())
    yield format_row("kept", f"{summary.kept}{left_out}; {summary.damaged} damaged")
    if summary.lengths:
        yield from content_lines(summary)
    yield from attribute_lines(summary)
    if summary.damage:
        yield ""
        yield "damaged"
        yield from (f"  {each.name}: {each.reason}" for each in summary.damage)
        if summary.damaged > len(summary.damage):
            yield f"  and {summary.damaged - len(summary.damage)} more"
    yield ""
    yield "problems" if summary.problems else "no problems found"
    yield from (f"  {problem}" for problem in summary.problems)


def content_lines(summary: Summary) -> Iterator[str]:
    """Yield the lines on frames, images, actions, instructions and splits."""
    strided = "" if summary.fps == summary.fps_recorded else f"; with the stride {summary.frames} at {summary.fps:g}"
    yield format_row("frames", f"{summary.frames_recorded} at {summary.fps_recorded:g} frames per second{strided}")
    yield format_row("lengths", histogram(summary.lengths))
    sizes = ", ".join(f"{name} ({count})" for name, count in list(summary.sizes.items())[:5])
    camera_note = f", one of {summary.cameras} cameras in a frame" if summary.cameras > 1 else ""
    yield format_row("images", f"{sizes} → {summary.size} by {summary.fit}{camera_note}" if summary.fit else sizes)
    splits = ", ".join(f"{count} {name}" for name, count in summary.splits.items())
    if summary.kept:
        groups = f"; {summary.groups} groups, the largest with {summary.largest_group}" if summary.widths else ""
        yield format_row("splits", splits + groups)
    yield ""
    yield f"actions: {len(summary.actions)} dimensions"
    yield from action_lines(summary.actions, summary.quantile)
    yield ""
    missing = f"; {summary.without_instruction} without one" if summary.without_instruction else ""
    yield f"instructions: {summary.instructions} distinct{missing}"
    yield from (f"  {count:>5}  {text}" for text, count in summary.frequent.items())
    if summary.instructions > len(summary.frequent):
        yield f"         and {summary.instructions - len(summary.frequent)} more"


def format_row(label: str, text: str) -> str:
    """Format a label and its value."""
    return f"  {label:<{WIDE}}{text}"


def histogram(lengths: Mapping[int, int]) -> str:
    """Format a histogram of lengths: minimum, bars, maximum, median."""
    shortest, longest = min(lengths), max(lengths)
    values = sorted(length for length, count in lengths.items() for _ in range(count))
    median = values[len(values) // 2]
    if shortest == longest:
        return f"{shortest} frames each"
    bins = [0] * min(BINS, longest - shortest + 1)
    for value in values:
        bins[(value - shortest) * len(bins) // (longest - shortest + 1)] += 1
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // max(bins))] if count else " " for count in bins)
    return f"{shortest} {bars} {longest} frames, median {median}"


def action_lines(dimensions: Sequence[Dimension], quantile: float) -> Iterator[str]:
    """Yield a table with one line per action dimension."""
    head = ("min", f"{quantile:.0%}", "50%", f"{1 - quantile:.0%}", "max")
    wide = max((len(each.name) for each in dimensions), default=0)
    yield "  " + " " * wide + "".join(f"{text:>11}" for text in head) + "  outliers"
    for each in dimensions:
        statistics = (each.minimum, each.low, each.median, each.high, each.maximum)
        note = "constant" if each.values == 1 else f"{each.values} values" if each.values < 9 else ""
        outliers = f"{each.outlier_fraction:.2%}" if each.outlier_fraction else "-"
        yield (
            f"  {each.name:<{wide}}"
            + "".join(f"{value:>11.4g}" for value in statistics)
            + f"{outliers:>10}  {note}".rstrip()
        )


def attribute_lines(summary: Summary) -> Iterator[str]:
    """Yield the lines on the attributes that filters and scenes can name."""
    if not summary.attributes:
        return
    yield ""
    yield f"attributes: {len(summary.attributes)}"
    wide = min(40, max(len(key) for key in summary.attributes))
    listed = list(summary.attributes.items())
    for key, attribute in listed[: 3 * MANY]:
        examples = " | ".join(shorten(text, 60 if attribute.distinct > 1 else 100) for text in attribute.examples)
        yield f"  {key:<{wide}}  {attribute.distinct:>4} distinct: {examples}"
    if len(listed) > 3 * MANY:
        yield f"  and {len(listed) - 3 * MANY} more; --json lists them"
