"""Summarises the episodes of a source: counts, distributions, and action dimensions. Pure functions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from roboalign.errors import printable
from roboalign.sources.ingest_report import IngestReport
from roboalign.sources.inspection.action_meaning import DimensionMeaning, classify_dimensions
from roboalign.sources.inspection.preview import EpisodePreview, SourcePreview
from roboalign.sources.readers.reader import Damaged
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.sources.splits import split_groups
from roboalign.types import Float32, Split

BEYOND = 0.5
"""A value is an outlier if it lies outside the range by more than this fraction of the range's width."""
MANY = 10
"""Largest number of instructions, attribute values and damaged episodes in the summary."""
CHARACTERS = 120
"""Largest length of an example of an attribute."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """Statistics of one action dimension."""

    name: str
    minimum: float
    low: float
    """Lower end of the range: the quantile `action_quantile` of the spec."""
    median: float
    high: float
    """Upper end of the range: the mirrored quantile."""
    maximum: float
    values: int
    """Number of distinct values, at most 9."""
    outlier_fraction: float
    """Fraction of outliers."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Values of one attribute."""

    episodes: int
    """Number of episodes that have this attribute."""
    distinct: int
    """Number of distinct values."""
    examples: tuple[str, ...]
    """Up to three values, shortened."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a source. Counts refer to the inspected episodes."""

    source: str
    kind: str
    uri: str
    selection: str
    complete: bool
    """Whether every episode was inspected."""
    kept: int
    left_out: Mapping[str, int]
    """Number of episodes that each field of the spec leaves out."""
    damaged: int
    damaged_share: float
    damage: tuple[Damaged, ...]
    """The first damaged episodes, at most MANY."""
    warnings: Mapping[str, int]
    """Number of kept episodes that each warning applies to."""
    frames_recorded: int
    frames: int
    """Number of frames after the stride."""
    fps_recorded: float
    fps: float
    """Frames per second after the stride."""
    lengths: Mapping[int, int]
    """Number of episodes of each length in frames after the stride."""
    sizes: Mapping[str, int]
    """Number of episodes with each recorded image size, height x width."""
    size: str
    """Height x width of the frames, or of the first camera's cell if there are several cameras."""
    cameras: int
    """Number of cameras in a frame."""
    fit: str
    quantile: float
    actions: tuple[Dimension, ...]
    instructions: int
    """Number of distinct instructions."""
    without_instruction: int
    """Number of inspected episodes without an instruction, kept or not."""
    frequent: Mapping[str, int]
    """Number of episodes with each of the most frequent instructions."""
    attributes: Mapping[str, Attribute]
    groups: int
    """Number of groups (scenes or instructions) that splits do not divide."""
    largest_group: int
    """Number of episodes in the largest group."""
    splits: Mapping[Split, int]
    """Number of episodes in each split: of all episodes if known, else as the spec would split the kept ones."""
    widths: tuple[int, ...]
    """Number of action dimensions of each entry of the spec's `actions`."""
    problems: tuple[str, ...] = ()
    """Problems, each with its remedy."""
    overrides: tuple[str, ...] = ()
    """Values that the current experiment sets in place of those of the source's file, each with its file and line."""
    meanings: tuple[DimensionMeaning, ...] = ()
    """Meaning of each action dimension; empty for simulators and stores."""


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """Description of a source, apart from its episodes."""

    source: str
    kind: str
    uri: str
    stride: int = 1
    size: tuple[int, int] | None = None
    """Height and width of the frames, or of a camera's cell; None if images are not resized."""
    fit: str = ""
    quantile: float = 0.01
    names: tuple[str, ...] = ()
    """Names of the action dimensions."""
    overrides: tuple[str, ...] = ()
    """Values that the current experiment sets in place of those of the source's file."""
    cameras: int = 1
    """Number of cameras in a frame."""


def summarise(preview: SourcePreview, description: SourceDescription, spec: DatasetSpec | None = None) -> Summary:
    """Summarise a preview.

    If no episode is kept, the statistics describe the episodes that the spec leaves out.
    """
    kept = [episode for episode in preview.episodes if not episode.left_out]
    described = kept or list(preview.episodes)
    report = preview.report or IngestReport(len(kept), sum(episode.length for episode in kept))
    total = report.kept + report.lost
    scenes = Counter(episode.scene for episode in kept)
    sizes = sort_counts(Counter(size(each) for episode in described for each in dict.fromkeys(episode.sizes)))
    return Summary(
        source=description.source,
        kind=description.kind,
        uri=description.uri,
        selection=preview.selection,
        complete=preview.complete,
        kept=report.kept,
        left_out=dict(report.left_out),
        damaged=report.lost,
        damaged_share=report.lost / max(1, total),
        damage=report.damaged[:MANY],
        warnings=dict(report.warnings),
        frames_recorded=sum(episode.recorded for episode in described),
        frames=sum(episode.length for episode in described),
        fps_recorded=preview.fps,
        fps=preview.fps / description.stride,
        lengths=dict(sorted(Counter(episode.length for episode in described).items())),
        sizes=sizes,
        size=size(description.size) if description.size else next(iter(sizes), ""),
        cameras=description.cameras,
        fit=description.fit,
        quantile=description.quantile,
        actions=dimensions([episode.actions for episode in described], description.names, description.quantile),
        instructions=len({episode.instruction for episode in described}),
        without_instruction=preview.without_instruction,
        frequent=dict(list(sort_counts(Counter(episode.instruction for episode in described)).items())[:MANY]),
        attributes=attributes(described),
        groups=len(scenes),
        largest_group=max(scenes.values(), default=0),
        splits=splits(preview.splits, kept, spec),
        widths=next((episode.widths for episode in described), ()),
        overrides=description.overrides,
        meanings=classify_actions(spec, preview) if spec is not None else (),
    )


def label_dimensions(spec: DatasetSpec, preview: SourcePreview) -> tuple[str, ...]:
    """Return a label for each action dimension of a data set.

    The label is the data set's own name, prefixed by the column if the name is not unique, else the column and the
    index in it.
    """
    first = next(iter(preview.episodes), None)
    if first is None:
        return ()
    keys, own_names = dimensions_of(spec, first)
    result: list[str] = []
    indices = [index for entry, width in zip(spec.actions, first.widths, strict=False) for index in
              (entry.columns or tuple(range(width)))]  # fmt: skip
    wide = {entry.key for entry, width in zip(spec.actions, first.widths, strict=False) if entry.columns or width > 1}
    for key, name, index in zip(keys, own_names, indices, strict=True):
        if name:
            result.append(name if own_names.count(name) == 1 else f"{key}/{name}")
        else:
            result.append(f"{key}[{index}]" if key in wide else key)
    return tuple(result)


def dimensions_of(spec: DatasetSpec, episode: EpisodePreview) -> tuple[list[str], list[str]]:
    """Return the column and the data set's own name of each action dimension; the name is empty if there is none."""
    keys: list[str] = []
    names: list[str] = []
    for entry, width in zip(spec.actions, episode.widths, strict=False):
        own_names = episode.dimension_names.get(entry.key, ())
        for index in entry.columns or tuple(range(width)):
            keys.append(entry.key)
            names.append(own_names[index] if index < len(own_names) else "")
    return keys, names


def classify_actions(spec: DatasetSpec, preview: SourcePreview) -> tuple[DimensionMeaning, ...]:
    """Classify each action dimension by the previewed episodes."""
    episodes = [episode.vectors for episode in preview.episodes if episode.vectors is not None]
    if not episodes:
        return ()
    return classify_dimensions(episodes, *dimensions_of(spec, preview.episodes[0]))


def size(value: tuple[int, int]) -> str:
    """Format a size as height x width."""
    return f"{value[0]}x{value[1]}"


def sort_counts(counts: Counter[str]) -> dict[str, int]:
    """Sort counts in descending order, then by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def dimensions(actions: Sequence[Float32], names: Sequence[str], quantile: float) -> tuple[Dimension, ...]:
    """Return statistics of each action dimension over several episodes, each (T, A)."""
    if not actions:
        return ()
    values = np.concatenate(actions).astype(np.float64)
    low, median, high = np.quantile(values, [quantile, 0.5, 1 - quantile], axis=0)
    result = []
    for index in range(values.shape[1]):
        column, width = values[:, index], high[index] - low[index]
        outliers = (column < low[index] - BEYOND * width) | (column > high[index] + BEYOND * width)
        name = names[index] if index < len(names) else f"action_{index}"
        result.append(
            Dimension(
                name=name,
                minimum=float(column.min()),
                low=float(low[index]),
                median=float(median[index]),
                high=float(high[index]),
                maximum=float(column.max()),
                values=min(9, len(np.unique(column))),
                outlier_fraction=float(outliers.mean()),
            )
        )
    return tuple(result)


def attributes(preview: Sequence[EpisodePreview]) -> dict[str, Attribute]:
    """Summarise the attributes of the episodes, by name."""
    values: dict[str, list[str]] = {}
    for episode in preview:
        for key, value in episode.attributes.items():
            values.setdefault(key, []).append(value)
    return {
        key: Attribute(
            len(found_values),
            len(set(found_values)),
            tuple(shorten(text) for text in list(dict.fromkeys(found_values))[:3]),
        )
        for key, found_values in sorted(values.items())
    }


def shorten(text: str, max_length: int = CHARACTERS) -> str:
    """Shorten a text to at most `max_length` characters on one line, keeping its start and its end."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= max_length else f"{text[: max_length // 3]}…{text[max_length // 3 + 1 - max_length :]}"


def splits(known: Mapping[Split, int], kept: Sequence[EpisodePreview], spec: DatasetSpec | None) -> dict[Split, int]:
    """Return the number of episodes in each split: the known numbers, or those that the spec would give for `kept`."""
    if spec is not None:
        known = Counter(split_groups([episode.scene for episode in kept], spec.split, spec.seed))
    names: tuple[Split, ...] = ("train", "validation", "test")
    return {name: known.get(name, 0) for name in names}
