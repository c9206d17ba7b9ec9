"""A few episodes of a source: what each one is, and some of its pictures."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from roboalign.sources.builder import build_reader, build_simulator
from roboalign.sources.errors import DamagedError
from roboalign.sources.ingest_report import IngestReport, IngestTally
from roboalign.sources.inspection.action_meaning import STATE, STATE_WIDTH, STATES, EpisodeVectors
from roboalign.sources.readers.convert import convert, join_actions
from roboalign.sources.readers.pictures import crop_bounds
from roboalign.sources.readers.reader import Damaged, LeftOut, Part, Pictures, Raw
from roboalign.sources.readers.spec import DatasetSpec, FilterSpec, PictureSpec
from roboalign.sources.simulators.record import assign, record
from roboalign.sources.simulators.spec import SimulatedRobotSpec
from roboalign.sources.spec import RecordedSpec
from roboalign.store import EpisodeStore
from roboalign.types import Episode, Float32, Split, UInt8

PARTS = 10
"""Parts of a data set that are opened at most, unless all episodes are asked for."""
COLUMNS = 6
"""Frames of an episode on the contact sheet."""
ROWS = 8
"""Episodes on the contact sheet."""
STRIPS = 60
"""Episodes of which pictures are kept, for the sheet to choose from: about half a megabyte each."""
CELL = 128
"""Height of its pictures in pixels."""
SHADE = 0.3
"""Brightness of what the crop cuts off."""


@dataclass(frozen=True, slots=True)
class EpisodePreview:
    """One sound episode: what is known of it, and a few of its pictures."""

    name: str
    recorded: int
    """Frames as recorded."""
    length: int
    """Frames after the stride."""
    left_out: str
    """The field of the spec that leaves it out; empty if it is kept."""
    instruction: str
    scene: str
    split: Split | None
    """None if it is not known before all episodes are read."""
    actions: Float32
    """(length, A)."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of the pictures as recorded, of each camera."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[UInt8, ...] = ()
    """Frames over time, at the height of the contact sheet; () for episodes that the sheet does not show."""
    numbers: tuple[int, ...] = ()
    """Their numbers in the episode."""
    first_recorded: UInt8 | None = None
    """The first picture as recorded, of all cameras side by side, with what is cut off in the dark; None if pictures
    are taken as they are."""
    widths: tuple[int, ...] = ()
    """How many dimensions each entry of the spec's actions gives."""
    vectors: EpisodeVectors | None = None
    """Actions before the stride, and states; None for what is taken as it is."""
    dimension_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The data set's own names of the columns' dimensions, by key."""


@dataclass(frozen=True, slots=True)
class SourcePreview:
    """Some episodes of a source."""

    selection: str
    """Which episodes, in words."""
    complete: bool
    """Whether that is all there are."""
    fps: float
    """Frames a second as recorded, before the stride."""
    episodes: tuple[EpisodePreview, ...]
    """Episodes that the spec keeps, and a few that it leaves out."""
    report: IngestReport | None = None
    """The report on a data set's episodes; None for simulators and stores, which keep all."""
    without: int = 0
    """Number of episodes without an instruction, kept or not."""
    splits: Mapping[Split, int] = field(default_factory=dict)
    """Of all episodes, if that is known without reading them."""


def preview_data_set(spec: RecordedSpec, source: str, count: int, cache: Path) -> SourcePreview:
    """Up to `count` episodes (0: all) of a data set, spread over its parts. Raises SourceError."""
    reader = build_reader(spec, cache)
    parts = reader.parts()
    chosen = choose_parts(parts, count, spec.episodes)
    previews: list[EpisodePreview] = []
    tally = IngestTally()
    seen = whole = opened = without = 0
    for place, part in enumerate(chosen):
        opened += 1
        share = -(-(count - seen) // (len(chosen) - place)) if count else 0
        taken = 0
        stream = reader.read(part)
        for raw in stream:
            if (count and taken == share) or (spec.episodes and tally.kept == spec.episodes):
                break  # there is more than was asked for
            taken += 1
            without += isinstance(raw, Raw) and not raw.instruction.strip()
            if isinstance(raw, Damaged):
                tally.add(raw, raw)
            elif (preview := preview_raw(raw, spec, source, len(previews), tally)) is not None:
                previews.append(preview)
        else:
            whole += 1
        close(stream)
        seen += taken
        if spec.episodes and tally.kept >= spec.episodes:
            break
    enough = 0 < spec.episodes <= tally.kept and chosen[:opened] == parts[:opened] and whole >= opened - 1
    complete = whole == len(parts) or enough
    if complete and whole < len(parts):
        selection = f"the first {seen} episodes, of which as many are kept as `episodes` asks for"
    elif complete:
        selection = f"all {seen} episodes"
    else:
        unit = "part" if len(parts) == 1 else "parts"
        selection = f"{seen} episodes, from {opened} of {len(parts)} {unit}; --episodes 0 looks at all"
    return SourcePreview(selection, complete, reader.fps, tuple(previews), tally.report(), without)


def close(stream: Iterator[object]) -> None:
    """End a reader's generator, so that its files are closed."""
    if hasattr(stream, "close"):
        stream.close()


def choose_parts(parts: Sequence[Part], count: int, limit: int) -> list[Part]:
    """The parts to open: all, or some at even distances; from the start if the spec takes only so many episodes."""
    if count == 0:
        return list(parts)
    number = min(len(parts), count, PARTS)
    if limit:
        return list(parts[:number])
    return [parts[index * len(parts) // number] for index in range(number)]


def preview_raw(raw: Raw, spec: DatasetSpec, source: str, row: int, tally: IngestTally) -> EpisodePreview | None:
    """Count an episode as the stage does; None if it is damaged. A few of those that are left out are converted without
    the filter, which is not counted, so that there is something to see if the spec leaves out everything."""
    first: dict[int, UInt8] = {}
    pictures, *further = [
        keep_first(each, first, camera) for camera, each in enumerate((raw.pictures, *raw.further_pictures))
    ]
    watched = replace(raw, pictures=pictures, further_pictures=tuple(further))
    result = convert(watched, spec, source)
    tally.add(raw, result)
    reason = ""
    if isinstance(result, LeftOut):
        reason = result.reason
        if tally.left_out.total() > ROWS:
            return None
        everything = spec.model_copy(update={"filter": FilterSpec(), "length": 1})
        result = convert(watched, everything, source)
    if not isinstance(result, Episode):
        return None
    recorded = [first[camera] for camera in sorted(first)]
    preview = EpisodePreview(
        name=raw.name,
        recorded=raw.length,
        length=len(result.frames),
        left_out=reason,
        instruction=result.instruction,
        scene=result.scene,
        split=None,
        actions=result.actions,
        sizes=tuple((picture.shape[0], picture.shape[1]) for picture in recorded),
        attributes=raw.attributes,
        widths=tuple(len(entry.columns) or np.atleast_2d(raw.columns[entry.key].T).shape[0] for entry in spec.actions),
        vectors=EpisodeVectors(
            join_actions(raw.columns, spec.model_copy(update={"stride": 1}), raw.length), states_of(raw, spec)
        ),
        dimension_names=raw.dimension_names,
    )
    if row >= STRIPS:
        return preview
    shaded = [
        shade_outside_crop(picture, spec.image.model_copy(update={"height": tile.height, "width": tile.width}))
        for picture, tile in zip(recorded, spec.tiles, strict=True)
    ]
    return replace(add_frames(preview, result.frames), first_recorded=np.concatenate(shaded, axis=1))


def states_of(raw: Raw, spec: DatasetSpec) -> dict[str, Float32]:
    """The columns of an episode that may be states, each (T, width), which its actions are compared with."""
    actions = {entry.key for entry in spec.actions}
    keys = [key for key in raw.columns if STATE.search(key) and key not in actions and not key.startswith("next")]
    found: dict[str, Float32] = {}
    for key in keys:
        with suppress(DamagedError):  # what is no action need not be sound
            values = raw.columns[key]
            values = values[:, None] if values.ndim == 1 else values
            fits = values.ndim == 2 and len(values) == raw.length and 0 < values.shape[1] <= STATE_WIDTH
            if fits and len(found) < STATES and np.isfinite(values).all():
                found[key] = values
    return found


def keep_first(pictures: Pictures, first: dict[int, UInt8], camera: int) -> Pictures:
    """The same pictures; the first one that is decoded is put into `first` under the number of its camera."""

    def decode_and_keep(steps: Sequence[int]) -> Iterator[UInt8]:
        for picture in pictures(steps):
            first.setdefault(camera, picture)
            yield picture

    return decode_and_keep


def shade_outside_crop(picture: UInt8, spec: PictureSpec) -> UInt8:
    """A recorded picture at the sheet's height; what the frame does not show is dark, the rest outlined."""
    high, wide = picture.shape[:2]
    top, bottom, left, right = crop_bounds(high, wide, spec)
    result = (picture * SHADE).astype(np.uint8)
    result[top:bottom, left:right] = picture[top:bottom, left:right]
    scale = CELL / high
    image = Image.fromarray(result)
    image = image.resize((max(1, round(wide * scale)), CELL), Image.Resampling.LANCZOS)
    if (bottom - top, right - left) != (high, wide):
        box = [round(left * scale), round(top * scale), round(right * scale) - 1, round(bottom * scale) - 1]
        ImageDraw.Draw(image).rectangle(box, outline=(255, 214, 10), width=2)
    return np.asarray(image)


def add_frames(preview: EpisodePreview, frames: UInt8) -> EpisodePreview:
    """The preview with frames (T, H, W, 3) at even distances, the first and the last among them."""
    numbers = sorted({round(index * (len(frames) - 1) / max(1, COLUMNS - 1)) for index in range(COLUMNS)})
    shown = tuple(scale_to_cell(frames[number]) for number in numbers)
    return replace(preview, frames=shown, numbers=tuple(numbers))


def scale_to_cell(frame: UInt8) -> UInt8:
    """A frame at the sheet's height: small ones by whole factors, so that their pixels are seen as they are."""
    high, wide = frame.shape[:2]
    image = Image.fromarray(frame)
    if high * 2 <= CELL:
        factor = CELL // high
        return np.asarray(image.resize((wide * factor, high * factor), Image.Resampling.NEAREST))
    return np.asarray(image.resize((max(1, round(wide * CELL / high)), CELL), Image.Resampling.LANCZOS))


def preview_simulator(spec: SimulatedRobotSpec, source: str, count: int) -> SourcePreview:
    """Records `count` episodes of a simulated robot (0: all), of its tasks in turn. Raises SourceError."""
    everything = assign(spec)
    turns = [[each for each in everything if each.task == task] for task in spec.tasks]
    order = [own[turn] for turn in range(max(map(len, turns))) for own in turns if turn < len(own)]
    chosen = order[: count or None]
    previews: list[EpisodePreview] = []
    for task in spec.tasks:
        if not any(each.task == task for each in chosen):
            continue
        simulator = build_simulator(spec, task)
        try:
            episodes = [record(spec, source, each, simulator) for each in chosen if each.task == task]
        finally:
            simulator.close()
        previews += [preview_episode(episode, row) for row, episode in enumerate(episodes)]
    complete = len(chosen) == len(everything)
    selection = f"all {len(chosen)} episodes" if complete else f"{len(chosen)} of {len(everything)} episodes"
    return SourcePreview(
        selection=f"{selection}, recorded here for this",
        complete=complete,
        fps=spec.fps,
        episodes=tuple(previews),
        splits=dict(Counter(each.split for each in everything)),
    )


def preview_store(store: EpisodeStore, count: int) -> SourcePreview:
    """Up to `count` episodes (0: all) of an episode store, spread over it."""
    number = min(len(store), count) if count else len(store)
    complete = number == len(store)
    part = f"{number} of {len(store)} episodes; --episodes 0 looks at all"
    return SourcePreview(
        selection=f"all {number} episodes" if complete else part,
        complete=complete,
        fps=store.fps,
        episodes=tuple(preview_episode(store.read(row * len(store) // number), row) for row in range(number)),
        splits=dict(Counter(info.split for info in store.infos)),
    )


def preview_episode(episode: Episode, row: int) -> EpisodePreview:
    """An episode that is taken as it is, with frames for the first rows."""
    length, high, wide, _ = episode.frames.shape
    attributes: dict[str, str] = {"policy": episode.policy}
    if episode.success is not None:
        attributes["success"] = str(episode.success)
    preview = EpisodePreview(
        name=episode.id,
        recorded=length,
        length=length,
        left_out="",
        instruction=episode.instruction,
        scene=episode.scene,
        split=episode.split,
        actions=episode.actions,
        sizes=((high, wide),),
        attributes=attributes,
    )
    return add_frames(preview, episode.frames) if row < STRIPS else preview
