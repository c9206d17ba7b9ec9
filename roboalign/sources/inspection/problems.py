"""Finds problems of a source, each with the spec field to change. Pure functions."""

from collections.abc import Iterator

from roboalign.sources.inspection.action_meaning import SKIPPED, Meaning
from roboalign.sources.inspection.summary import Summary
from roboalign.sources.readers.spec import DatasetSpec

OUTLIERS = 0.001
"""Smallest fraction of outliers for which a dimension is reported."""
ALLOWED: dict[Meaning, tuple[str, ...]] = {"switch": ("last",), "position": ("last", "mean"), "displacement": ("sum",)}
"""Values of `skipped` that suit each meaning."""
LIKE: dict[Meaning, str] = {
    "switch": "like a gripper's switch",
    "position": "like absolute positions",
    "displacement": "like displacements",
}
ENLARGED = 1.5
"""Smallest enlargement of images that is reported."""


def problems(summary: Summary, spec: DatasetSpec | None) -> Iterator[str]:
    """Yield each problem of a source as a sentence with its remedy."""
    yield from episode_problems(summary, spec)
    yield from image_problems(summary)
    yield from action_problems(summary, spec)
    yield from split_problems(summary, spec)


def episode_problems(summary: Summary, spec: DatasetSpec | None) -> Iterator[str]:
    """Yield problems of the episodes: none kept, too many damaged, missing instructions, warnings of the reader."""
    if not summary.kept and summary.lengths:
        fields = ", ".join(f"{count} by {field}" for field, count in summary.left_out.items())
        text = f"every episode is left out ({fields}); the figures below describe these episodes"
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


def image_problems(summary: Summary) -> Iterator[str]:
    """Yield problems of the images: several sizes, enlargement."""
    if len(summary.sizes) > 1:
        target_size = "a cell of the frame" if summary.cameras > 1 else summary.size
        yield f"the images have {len(summary.sizes)} sizes; all become {target_size}"
    high, wide = map(int, summary.size.split("x")) if summary.size else (0, 0)
    for name in summary.sizes:
        height, width = map(int, name.split("x"))
        factor = max(high / height, wide / width)
        if factor >= ENLARGED:
            yield f"images of {name} are enlarged {factor:.3g} times to {summary.size}; set image.height and width"


def action_problems(summary: Summary, spec: DatasetSpec | None) -> Iterator[str]:
    """Yield problems of the actions: constant dimensions, outliers, an unsuitable treatment of skipped actions."""
    constant = [each.name for each in summary.actions if each.values == 1]
    if constant:
        yield f"never vary: {', '.join(constant)}; they carry no information"
    outliers = [
        f"{each.name} ({each.outlier_fraction:.1%})" for each in summary.actions if each.outlier_fraction >= OUTLIERS
    ]
    if outliers:
        yield f"outliers far beyond the range, which are clipped: {', '.join(outliers)}"
    if spec is None or spec.stride == 1:
        return
    yield from stride_problems(summary, spec)


def stride_problems(summary: Summary, spec: DatasetSpec) -> Iterator[str]:
    """Yield dimensions whose `skipped` does not suit their meaning."""
    index = 0
    for entry, width in zip(spec.actions, summary.widths, strict=False):
        dimensions = list(zip(summary.actions, summary.meanings, strict=False))[index : index + width]
        index += width
        for meaning in ALLOWED:
            wrong = [
                (dimension.name, evidence.reason)
                for dimension, evidence in dimensions
                if evidence.meaning == meaning and entry.skipped not in ALLOWED[meaning]
                and (evidence.certain or meaning != "displacement")
            ]  # fmt: skip
            if wrong:
                names = ", ".join(name for name, _ in wrong)
                reasons = "; ".join(list(dict.fromkeys(reason for _, reason in wrong))[:2])
                yield (
                    f"{names} {'is' if len(wrong) == 1 else 'are'} {LIKE[meaning]} ({reasons}), but the stride "
                    f"replaces the skipped actions by their {entry.skipped}; add an entry for "
                    f"{'it' if len(wrong) == 1 else 'them'} with `skipped: {SKIPPED[meaning]}`"
                )


def split_problems(summary: Summary, spec: DatasetSpec | None) -> Iterator[str]:
    """Yield splits that stay empty because groups are not divided."""
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
            f"no episode falls into {empty}: {summary.kept} episodes belong to {summary.groups} {by}"
            f"{'s'[: summary.groups != 1]}, the largest with {summary.largest_group}, and groups are not "
            "divided; change split"
        )
