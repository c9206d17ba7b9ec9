"""What the episodes of a source amount to: figures, and what is odd about them. Pure functions."""

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
"""A value is far out if it lies beyond the range by more than this share of its width."""
MANY = 10
"""Instructions, attributes' values and damaged episodes that are listed."""
CHARACTERS = 120
"""Of an attribute's example."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One of the actions' dimensions."""

    name: str
    minimum: float
    low: float
    """The quantile of the spec's `action_quantile`: the lower end of the range."""
    median: float
    high: float
    """The upper end of the range."""
    maximum: float
    values: int
    """Different values; counted up to 9."""
    far_out: float
    """The share of its values that lie far beyond the range."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One of the attributes."""

    episodes: int
    """How many have it."""
    different: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A source in figures. Counts are of the episodes that were looked at."""

    source: str
    kind: str
    uri: str
    looked_at: str
    complete: bool
    """Whether every episode was looked at."""
    kept: int
    left_out: Mapping[str, int]
    """By field of the spec."""
    damaged: int
    damaged_share: float
    damage: tuple[Damaged, ...]
    """The first of them."""
    warnings: Mapping[str, int]
    """What to know of episodes that are kept, and how many it applies to."""
    frames_recorded: int
    frames: int
    """After the stride."""
    fps_recorded: float
    fps: float
    """After the stride."""
    lengths: Mapping[int, int]
    """Frames after the stride, and how many episodes have as many."""
    sizes: Mapping[str, int]
    """Height x width as recorded, and how many episodes have it."""
    size: str
    """Height x width of the frames; of several cameras, that of the first one's cell."""
    cameras: int
    """Cameras that a frame shows."""
    fit: str
    quantile: float
    actions: tuple[Dimension, ...]
    instructions: int
    """Different ones."""
    without_instruction: int
    """Episodes that have none, whatever became of them."""
    frequent: Mapping[str, int]
    """The most frequent instructions, and how many episodes have each."""
    attributes: Mapping[str, Attribute]
    groups: int
    """Scenes, or what else may not be divided between splits."""
    largest_group: int
    """Episodes of the largest one."""
    splits: Mapping[Split, int]
    """Episodes of each split: of all, if that is known, or as the spec would split those that are kept."""
    widths: tuple[int, ...]
    """Dimensions that each entry of the spec's actions gives."""
    problems: tuple[str, ...] = ()
    """What is odd, and what to do about it."""
    overrides: tuple[str, ...] = ()
    """What the experiment at hand sets over the source's own file, each with the file and line."""
    meanings: tuple[DimensionMeaning, ...] = ()
    """What each dimension of the actions means; empty for what is not read by a spec."""


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """What is known of a source beside its episodes."""

    source: str
    kind: str
    uri: str
    stride: int = 1
    size: tuple[int, int] | None = None
    """Height and width of the frames, or of a camera's cell; None if they stay as they are."""
    fit: str = ""
    quantile: float = 0.01
    names: tuple[str, ...] = ()
    """Of the actions' dimensions."""
    overrides: tuple[str, ...] = ()
    """What the experiment at hand sets over the source's own file."""
    cameras: int = 1
    """Cameras that a frame shows."""


def summarise(preview: SourcePreview, about: SourceDescription, spec: DatasetSpec | None = None) -> Summary:
    """The figures. Where nothing is kept they are those of the episodes that the spec leaves out, and that is said."""
    kept = [episode for episode in preview.episodes if not episode.left_out]
    shown = kept or list(preview.episodes)
    report = preview.report or IngestReport(len(kept), sum(episode.length for episode in kept))
    found = report.kept + report.lost
    scenes = Counter(episode.scene for episode in kept)
    sizes = rank(Counter(size(each) for episode in shown for each in dict.fromkeys(episode.sizes)))
    return Summary(
        source=about.source,
        kind=about.kind,
        uri=about.uri,
        looked_at=preview.selection,
        complete=preview.complete,
        kept=report.kept,
        left_out=dict(report.left_out),
        damaged=report.lost,
        damaged_share=report.lost / max(1, found),
        damage=report.damaged[:MANY],
        warnings=dict(report.warnings),
        frames_recorded=sum(episode.recorded for episode in shown),
        frames=sum(episode.length for episode in shown),
        fps_recorded=preview.fps,
        fps=preview.fps / about.stride,
        lengths=dict(sorted(Counter(episode.length for episode in shown).items())),
        sizes=sizes,
        size=size(about.size) if about.size else next(iter(sizes), ""),
        cameras=about.cameras,
        fit=about.fit,
        quantile=about.quantile,
        actions=dimensions([episode.actions for episode in shown], about.names, about.quantile),
        instructions=len({episode.instruction for episode in shown}),
        without_instruction=preview.without,
        frequent=dict(list(rank(Counter(episode.instruction for episode in shown)).items())[:MANY]),
        attributes=attributes(shown),
        groups=len(scenes),
        largest_group=max(scenes.values(), default=0),
        splits=splits(preview.splits, kept, spec),
        widths=next((episode.widths for episode in shown), ()),
        overrides=about.overrides,
        meanings=classify_actions(spec, preview) if spec is not None else (),
    )


def label_dimensions(spec: DatasetSpec, preview: SourcePreview) -> tuple[str, ...]:
    """The labels of a data set's action dimensions: its own names, behind the column if another one has them too, or
    the column and the place in it."""
    first = next(iter(preview.episodes), None)
    if first is None:
        return ()
    keys, own = dimensions_of(spec, first)
    result: list[str] = []
    places = [place for entry, width in zip(spec.actions, first.widths, strict=False) for place in
              (entry.columns or tuple(range(width)))]  # fmt: skip
    wide = {entry.key for entry, width in zip(spec.actions, first.widths, strict=False) if entry.columns or width > 1}
    for key, name, place in zip(keys, own, places, strict=True):
        if name:
            result.append(name if own.count(name) == 1 else f"{key}/{name}")
        else:
            result.append(f"{key}[{place}]" if key in wide else key)
    return tuple(result)


def dimensions_of(spec: DatasetSpec, episode: EpisodePreview) -> tuple[list[str], list[str]]:
    """For each dimension of the actions, its column and the data set's own name; empty if it has none."""
    keys: list[str] = []
    names: list[str] = []
    for entry, width in zip(spec.actions, episode.widths, strict=False):
        own = episode.dimension_names.get(entry.key, ())
        for place in entry.columns or tuple(range(width)):
            keys.append(entry.key)
            names.append(own[place] if place < len(own) else "")
    return keys, names


def classify_actions(spec: DatasetSpec, preview: SourcePreview) -> tuple[DimensionMeaning, ...]:
    """What each dimension of the actions means, by the episodes that were looked at."""
    episodes = [episode.vectors for episode in preview.episodes if episode.vectors is not None]
    if not episodes:
        return ()
    return classify_dimensions(episodes, *dimensions_of(spec, preview.episodes[0]))


def size(value: tuple[int, int]) -> str:
    """Height x width."""
    return f"{value[0]}x{value[1]}"


def rank(counts: Counter[str]) -> dict[str, int]:
    """By count, then by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def dimensions(actions: Sequence[Float32], names: Sequence[str], quantile: float) -> tuple[Dimension, ...]:
    """What each dimension of actions, each (T, A), holds."""
    if not actions:
        return ()
    values = np.concatenate(actions).astype(np.float64)
    low, median, high = np.quantile(values, [quantile, 0.5, 1 - quantile], axis=0)
    result = []
    for index in range(values.shape[1]):
        column, width = values[:, index], high[index] - low[index]
        far = (column < low[index] - BEYOND * width) | (column > high[index] + BEYOND * width)
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
                far_out=float(far.mean()),
            )
        )
    return tuple(result)


def attributes(preview: Sequence[EpisodePreview]) -> dict[str, Attribute]:
    """The attributes, by name."""
    values: dict[str, list[str]] = {}
    for episode in preview:
        for key, value in episode.attributes.items():
            values.setdefault(key, []).append(value)
    return {
        key: Attribute(len(found), len(set(found)), tuple(cut(text) for text in list(dict.fromkeys(found))[:3]))
        for key, found in sorted(values.items())
    }


def cut(text: str, most: int = CHARACTERS) -> str:
    """A text of bounded length, on one line: its start and its end, in which paths differ."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= most else f"{text[: most // 3]}…{text[most // 3 + 1 - most :]}"


def splits(known: Mapping[Split, int], kept: Sequence[EpisodePreview], spec: DatasetSpec | None) -> dict[Split, int]:
    """Episodes of each split: as they are known, or as the spec would split these."""
    if spec is not None:
        known = Counter(split_groups([episode.scene for episode in kept], spec.split, spec.seed))
    names: tuple[Split, ...] = ("train", "validation", "test")
    return {name: known.get(name, 0) for name in names}
