"""Problems of a source, each with the field of its spec to change. Pure functions."""

from collections.abc import Iterator

from roboalign.sources.inspection.action_meaning import SKIPPED, Meaning
from roboalign.sources.inspection.summary import Summary
from roboalign.sources.readers.spec import DatasetSpec

FAR_OUT = 0.001
"""From this share of far-out values on a dimension is named."""
ALLOWED: dict[Meaning, tuple[str, ...]] = {"switch": ("last",), "position": ("last", "mean"), "displacement": ("sum",)}
"""Sensible values of `skipped` for each meaning."""
LIKE: dict[Meaning, str] = {
    "switch": "like a gripper's switch",
    "position": "like absolute positions",
    "displacement": "like displacements",
}
ENLARGED = 1.5
"""From this factor on pictures are said to be enlarged."""


def problems(summary: Summary, spec: DatasetSpec | None) -> Iterator[str]:
    """Each as a sentence with its remedy."""
    yield from of_episodes(summary, spec)
    yield from of_pictures(summary)
    yield from of_actions(summary, spec)
    yield from of_splits(summary, spec)


def of_episodes(summary: Summary, spec: DatasetSpec | None) -> Iterator[str]:
    """Nothing kept, too much damaged."""
    if not summary.kept and summary.lengths:
        fields = ", ".join(f"{count} by {field}" for field, count in summary.left_out.items())
        text = f"every episode is left out ({fields}); what is shown is of those"
        if spec is not None and "length" in summary.left_out:
            longest = max(summary.lengths)
            text += f"; the longest has {longest} frames, and length is {spec.length}: lower length or stride"
        yield text
    if not summary.kept and not summary.lengths:
        yield "no episode can be used"
    if spec is not None and summary.damaged_share > spec.tolerance:
        yield (
            f"{summary.damaged_share:.1%} of the episodes are damaged, more than tolerance ({spec.tolerance:.1%}) "
            "allows: the stage would fail"
        )
    if spec is not None and summary.without_instruction and spec.filter.instruction is None:
        yield (
            f"{summary.without_instruction} of the episodes have no instruction; "
            "`filter: {instruction: .}` leaves them out"
        )
    yield from (f"{count} of the episodes: {text}" for text, count in summary.warnings.items())


def of_pictures(summary: Summary) -> Iterator[str]:
    """Several sizes, enlarged ones."""
    if len(summary.sizes) > 1:
        cells = "a cell of the frame" if summary.cameras > 1 else summary.size
        yield f"the pictures have {len(summary.sizes)} sizes; all become {cells}"
    high, wide = map(int, summary.size.split("x")) if summary.size else (0, 0)
    for name in summary.sizes:
        height, width = map(int, name.split("x"))
        factor = max(high / height, wide / width)
        if factor >= ENLARGED:
            yield f"pictures of {name} are enlarged {factor:.3g} times to {summary.size}; set image.height and width"


def of_actions(summary: Summary, spec: DatasetSpec | None) -> Iterator[str]:
    """Constant dimensions, far-out values, what a stride does to them."""
    constant = [each.name for each in summary.actions if each.values == 1]
    if constant:
        yield f"never vary: {', '.join(constant)}; they tell the model nothing"
    far = [f"{each.name} ({each.far_out:.1%})" for each in summary.actions if each.far_out >= FAR_OUT]
    if far:
        yield f"values far beyond the range, which are clipped: {', '.join(far)}"
    if spec is None or spec.stride == 1:
        return
    yield from of_stride(summary, spec)


def of_stride(summary: Summary, spec: DatasetSpec) -> Iterator[str]:
    """Dimensions whose skipped actions the spec does not treat as their meaning asks for."""
    index = 0
    for entry, width in zip(spec.actions, summary.widths, strict=False):
        dimensions = list(zip(summary.actions, summary.meanings, strict=False))[index : index + width]
        index += width
        for meaning in ALLOWED:
            wrong = [
                (dimension.name, told.reason)
                for dimension, told in dimensions
                if told.meaning == meaning and entry.skipped not in ALLOWED[meaning]
                and (told.certain or meaning != "displacement")
            ]  # fmt: skip
            if wrong:
                names = ", ".join(name for name, _ in wrong)
                reasons = "; ".join(list(dict.fromkeys(reason for _, reason in wrong))[:2])
                yield (
                    f"{names} {'is' if len(wrong) == 1 else 'are'} {LIKE[meaning]} ({reasons}), but with the stride "
                    f"the skipped ones become their {entry.skipped}; give {'it' if len(wrong) == 1 else 'them'} an "
                    f"entry with `skipped: {SKIPPED[meaning]}`"
                )


def of_splits(summary: Summary, spec: DatasetSpec | None) -> Iterator[str]:
    """Splits that whole groups cannot fill."""
    if spec is None or not summary.kept:
        return
    shares = {"train": spec.split.train, "validation": spec.split.validation, "test": spec.split.test}
    empty = " or ".join(name for name, count in summary.splits.items() if not count and shares[name])
    if not empty or not summary.complete:
        return
    by = "instruction" if spec.split.by == "instruction" else "scene"
    if summary.groups == summary.kept:
        yield f"no episode falls into {empty}: {summary.kept} episodes are too few"
    else:
        yield (
            f"no episode falls into {empty}: {summary.kept} episodes are of {summary.groups} {by}"
            f"{'s'[: summary.groups != 1]}, the largest of {summary.largest_group}, and none is divided; change split"
        )
