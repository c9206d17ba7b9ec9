"""Previews of sources: some episodes with their metadata and a few frames."""

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
from roboalign.sources.readers.image_transform import crop_bounds
from roboalign.sources.readers.reader import Damaged, ImageDecoder, LeftOut, Part, RawEpisode
from roboalign.sources.readers.spec import DatasetSpec, FilterSpec, ImageTransformSpec
from roboalign.sources.simulators.record import assign, record
from roboalign.sources.simulators.spec import SimulatedRobotSpec
from roboalign.sources.spec import RecordedSpec
from roboalign.store import EpisodeStore
from roboalign.types import Episode, Float32, Split, UInt8

PARTS = 10
"""Largest number of parts of a data set that are opened, unless all episodes are requested."""
COLUMNS = 6
"""Number of frames of an episode on the contact sheet."""
ROWS = 8
"""Number of episodes on the contact sheet."""
STRIPS = 60
"""Number of episodes whose frames are kept for the contact sheet to choose from; each takes about 0.5 MB."""
CELL = 128
"""Height of the images on the contact sheet in pixels."""
SHADE = 0.3
"""Brightness factor of the area outside the crop."""


@dataclass(frozen=True, slots=True)
class EpisodePreview:
    """One usable episode: its metadata and a few of its frames."""

    name: str
    recorded: int
    """Number of recorded frames."""
    length: int
    """Number of frames after the stride."""
    left_out: str
    """Field of the spec that leaves the episode out; empty if it is kept."""
    instruction: str
    scene: str
    split: Split | None
    """Split of the episode; None if it is only assigned once all episodes are read."""
    actions: Float32
    """Actions (length, A)."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of the recorded images, for each camera."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[UInt8, ...] = ()
    """Frames at even distances, scaled to the contact sheet; empty for episodes that the sheet does not show."""
    numbers: tuple[int, ...] = ()
    """Indices of `frames` in the episode."""
    recorded_image: UInt8 | None = None
    """First recorded image of each camera, side by side, with the area outside the crop darkened; None for simulators
    and stores."""
    widths: tuple[int, ...] = ()
    """Number of action dimensions of each entry of the spec's `actions`."""
    vectors: EpisodeVectors | None = None
    """Actions before the stride, and states; None for simulators and stores."""
    dimension_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The data set's names of the dimensions of its columns, by key."""


@dataclass(frozen=True, slots=True)
class SourcePreview:
    """Previews of some episodes of a source, with counts."""

    selection: str
    """Description of the inspected episodes, such as "all 4 episodes"."""
    complete: bool
    """Whether every episode was inspected."""
    fps: float
    """Recorded frames per second, before the stride."""
    episodes: tuple[EpisodePreview, ...]
    """Episodes that the spec keeps, and a few that it leaves out."""
    report: IngestReport | None = None
    """Report on the episodes of a data set; None for simulators and stores, which keep all."""
    without_instruction: int = 0
    """Number of inspected episodes without_instruction an instruction, kept or not."""
    splits: Mapping[Split, int] = field(default_factory=dict)
    """Number of episodes in each split, of all episodes; empty if it is not known without_instruction reading them."""


def preview_data_set(spec: RecordedSpec, source: str, count: int, cache: Path) -> SourcePreview:
    """Preview up to `count` episodes of a data set (0: all), taken from parts at even distances. Raises SourceError."""
    reader = build_reader(spec, cache)
    parts = reader.parts()
    chosen = choose_parts(parts, count, spec.episodes)
    previews: list[EpisodePreview] = []
    tally = IngestTally()
    read_count = parts_read = opened = without_instruction = 0
    for index, part in enumerate(chosen):
        opened += 1
        quota = -(-(count - read_count) // (len(chosen) - index)) if count else 0
        count_of_part = 0
        stream = reader.read(part)
        for raw in stream:
            if (count and count_of_part == quota) or (spec.episodes and tally.kept == spec.episodes):
                break  # the part has further episodes
            count_of_part += 1
            without_instruction += isinstance(raw, RawEpisode) and not raw.instruction.strip()
            if isinstance(raw, Damaged):
                tally.add(raw, raw)
            elif (preview := preview_raw(raw, spec, source, len(previews), tally)) is not None:
                previews.append(preview)
        else:
            parts_read += 1
        close_stream(stream)
        read_count += count_of_part
        if spec.episodes and tally.kept >= spec.episodes:
            break
    limit_reached = 0 < spec.episodes <= tally.kept and chosen[:opened] == parts[:opened] and parts_read >= opened - 1
    complete = parts_read == len(parts) or limit_reached
    if complete and parts_read < len(parts):
        selection = f"the first {read_count} episodes, enough for the limit `episodes`"
    elif complete:
        selection = f"all {read_count} episodes"
    else:
        unit = "part" if len(parts) == 1 else "parts"
        selection = f"{read_count} episodes, from {opened} of {len(parts)} {unit}; --episodes 0 inspects all"
    return SourcePreview(selection, complete, reader.fps, tuple(previews), tally.report(), without_instruction)


def close_stream(stream: Iterator[object]) -> None:
    """Close a reader's generator, so that its files are closed."""
    if hasattr(stream, "close"):
        stream.close()


def choose_parts(parts: Sequence[Part], count: int, limit: int) -> list[Part]:
    """Return the parts to open: all if `count` is 0, else some at even distances.

    If the spec limits the number of episodes, the first parts are returned, because the stage reads from the start.
    """
    if count == 0:
        return list(parts)
    number = min(len(parts), count, PARTS)
    if limit:
        return list(parts[:number])
    return [parts[index * len(parts) // number] for index in range(number)]


def preview_raw(raw: RawEpisode, spec: DatasetSpec, source: str, row: int, tally: IngestTally) -> EpisodePreview | None:
    """Convert and count an episode as the stage does, and return its preview; None if it is damaged.

    Up to ROWS episodes that the spec leaves out are converted without its filter (and not counted), so that the summary
    and the contact sheet show something even if all episodes are left out.
    """
    first: dict[int, UInt8] = {}
    images, *further = [
        record_first_image(each, first, camera) for camera, each in enumerate((raw.images, *raw.further_images))
    ]
    watched = replace(raw, images=images, further_images=tuple(further))
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
        sizes=tuple((image.shape[0], image.shape[1]) for image in recorded),
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
        shade_outside_crop(image, spec.image.model_copy(update={"height": tile.height, "width": tile.width}))
        for image, tile in zip(recorded, spec.tiles, strict=True)
    ]
    return replace(add_frames(preview, result.frames), recorded_image=np.concatenate(shaded, axis=1))


def states_of(raw: RawEpisode, spec: DatasetSpec) -> dict[str, Float32]:
    """Return the columns of an episode that may be states, each (T, width)."""
    actions = {entry.key for entry in spec.actions}
    keys = [key for key in raw.columns if STATE.search(key) and key not in actions and not key.startswith("next")]
    states: dict[str, Float32] = {}
    for key in keys:
        with suppress(DamagedError):  # a column that is not an action may be damaged
            values = raw.columns[key]
            values = values[:, None] if values.ndim == 1 else values
            fits = values.ndim == 2 and len(values) == raw.length and 0 < values.shape[1] <= STATE_WIDTH
            if fits and len(states) < STATES and np.isfinite(values).all():
                states[key] = values
    return states


def record_first_image(images: ImageDecoder, first: dict[int, UInt8], camera: int) -> ImageDecoder:
    """Wrap the images of a camera to store the first decoded one in `first` under the camera's number."""

    def decode_and_keep(steps: Sequence[int]) -> Iterator[UInt8]:
        for image in images(steps):
            first.setdefault(camera, image)
            yield image

    return decode_and_keep


def shade_outside_crop(image: UInt8, spec: ImageTransformSpec) -> UInt8:
    """Return a recorded image, scaled to the contact sheet, with the area outside the crop darkened and the crop
    outlined."""
    high, wide = image.shape[:2]
    top, bottom, left, right = crop_bounds(high, wide, spec)
    shaded = (image * SHADE).astype(np.uint8)
    shaded[top:bottom, left:right] = image[top:bottom, left:right]
    scale = CELL / high
    scaled = Image.fromarray(shaded)
    scaled = scaled.resize((max(1, round(wide * scale)), CELL), Image.Resampling.LANCZOS)
    if (bottom - top, right - left) != (high, wide):
        box = [round(left * scale), round(top * scale), round(right * scale) - 1, round(bottom * scale) - 1]
        ImageDraw.Draw(scaled).rectangle(box, outline=(255, 214, 10), width=2)
    return np.asarray(scaled)


def add_frames(preview: EpisodePreview, frames: UInt8) -> EpisodePreview:
    """Return the preview with some of the frames (T, H, W, 3) at even distances, including the first and the last."""
    numbers = sorted({round(index * (len(frames) - 1) / max(1, COLUMNS - 1)) for index in range(COLUMNS)})
    scaled = tuple(scale_to_cell(frames[number]) for number in numbers)
    return replace(preview, frames=scaled, numbers=tuple(numbers))


def scale_to_cell(frame: UInt8) -> UInt8:
    """Scale a frame to the contact sheet: small ones by whole factors and nearest neighbour, to keep their pixels
    visible."""
    high, wide = frame.shape[:2]
    image = Image.fromarray(frame)
    if high * 2 <= CELL:
        factor = CELL // high
        return np.asarray(image.resize((wide * factor, high * factor), Image.Resampling.NEAREST))
    return np.asarray(image.resize((max(1, round(wide * CELL / high)), CELL), Image.Resampling.LANCZOS))


def preview_simulator(spec: SimulatedRobotSpec, source: str, count: int) -> SourcePreview:
    """Record `count` episodes of a simulated robot (0: all), from its tasks in turn. Raises SourceError."""
    all_assignments = assign(spec)
    turns = [[each for each in all_assignments if each.task == task] for task in spec.tasks]
    order = [
        assignments[turn] for turn in range(max(map(len, turns))) for assignments in turns if turn < len(assignments)
    ]
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
    complete = len(chosen) == len(all_assignments)
    selection = f"all {len(chosen)} episodes" if complete else f"{len(chosen)} of {len(all_assignments)} episodes"
    return SourcePreview(
        selection=f"{selection}, recorded for the inspection",
        complete=complete,
        fps=spec.fps,
        episodes=tuple(previews),
        splits=dict(Counter(each.split for each in all_assignments)),
    )


def preview_store(store: EpisodeStore, count: int) -> SourcePreview:
    """Preview up to `count` episodes of an episode store (0: all), at even distances."""
    number = min(len(store), count) if count else len(store)
    complete = number == len(store)
    part = f"{number} of {len(store)} episodes; --episodes 0 inspects all"
    return SourcePreview(
        selection=f"all {number} episodes" if complete else part,
        complete=complete,
        fps=store.fps,
        episodes=tuple(preview_episode(store.read(row * len(store) // number), row) for row in range(number)),
        splits=dict(Counter(info.split for info in store.infos)),
    )


def preview_episode(episode: Episode, row: int) -> EpisodePreview:
    """Preview an episode of a simulator or store, with frames for the first rows."""
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
