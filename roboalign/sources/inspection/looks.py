"""Looking at some episodes of a source: what each one is, and a few of its pictures."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from roboalign.sources.account import Account, Tally
from roboalign.sources.builder import build_reader, build_simulator
from roboalign.sources.errors import DamagedError
from roboalign.sources.inspection.action_meaning import STATE, STATE_WIDTH, STATES, EpisodeVectors
from roboalign.sources.readers.convert import convert, join_actions
from roboalign.sources.readers.pictures import crop_bounds
from roboalign.sources.readers.reader import Damaged, LeftOut, Part, Raw
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
class Strip:
    """A row of the contact sheet: the first picture as recorded, and frames over time."""

    recorded: UInt8 | None
    """With what is cut off in the dark; None where pictures are taken as they are."""
    frames: tuple[UInt8, ...]
    numbers: tuple[int, ...]
    """Their numbers in the episode."""


@dataclass(frozen=True, slots=True)
class Look:
    """One sound episode."""

    name: str
    recorded: int
    """Frames as recorded."""
    length: int
    """Frames after the stride."""
    left_out: str
    """The field of the spec that leaves it out; empty where it is kept."""
    instruction: str
    task: str
    scene: str
    split: Split | None
    """Where it is known already."""
    actions: Float32
    size: tuple[int, int]
    """Height and width of its pictures as recorded."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    strip: Strip | None = None
    widths: tuple[int, ...] = ()
    """How many dimensions each entry of the spec's actions gives."""
    vectors: EpisodeVectors | None = None
    """Actions before the stride, and states; None for what is taken as it is."""
    dimension_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The data set's own names of the columns' dimensions, by key."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What was looked at."""

    how: str
    """Which episodes, in words."""
    complete: bool
    """Whether that is all there are."""
    fps: float
    """Frames a second as recorded, before the stride."""
    episodes: tuple[Look, ...]
    """Those that are kept, and a few that the spec leaves out."""
    account: Account | None = None
    """What became of a data set's episodes; None for simulators and stores, which keep all."""
    without: int = 0
    """Episodes without an instruction, whatever became of them."""
    splits: Mapping[Split, int] = field(default_factory=dict)
    """Of all episodes, where that is known without looking at them."""


def of_data_set(spec: RecordedSpec, source: str, count: int, cache: Path) -> Looks:
    """Up to `count` episodes (0: all) of a data set, spread over its parts. Raises SourceError."""
    reader = build_reader(spec, cache)
    parts = reader.parts()
    chosen = spread(parts, count, spec.episodes)
    looks: list[Look] = []
    tally = Tally()
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
            elif (found := look(raw, spec, source, len(looks), tally)) is not None:
                looks.append(found)
        else:
            whole += 1
        close(stream)
        seen += taken
        if spec.episodes and tally.kept >= spec.episodes:
            break
    enough = 0 < spec.episodes <= tally.kept and chosen[:opened] == parts[:opened] and whole >= opened - 1
    complete = whole == len(parts) or enough
    if complete and whole < len(parts):
        how = f"the first {seen} episodes, of which as many are kept as `episodes` asks for"
    elif complete:
        how = f"all {seen} episodes"
    else:
        unit = "part" if len(parts) == 1 else "parts"
        how = f"{seen} episodes, from {opened} of {len(parts)} {unit}; --episodes 0 looks at all"
    return Looks(how, complete, reader.fps, tuple(looks), tally.account(), without)


def close(stream: Iterator[object]) -> None:
    """End a reader's generator, so that its files are closed."""
    if hasattr(stream, "close"):
        stream.close()


def spread(parts: Sequence[Part], count: int, limit: int) -> list[Part]:
    """The parts to open: all, or some at even distances; from the start where the spec takes only so many episodes."""
    if count == 0:
        return list(parts)
    number = min(len(parts), count, PARTS)
    if limit:
        return list(parts[:number])
    return [parts[index * len(parts) // number] for index in range(number)]


def look(raw: Raw, spec: DatasetSpec, source: str, row: int, tally: Tally) -> Look | None:
    """Count an episode as the stage does; None if it is damaged. A few of those that are left out are converted without
    the filter, which is not counted, so that there is something to see where the spec leaves out everything."""
    tap = Tap(raw, spec.image)
    result = convert(replace(raw, pictures=tap.pictures), spec, source)
    tally.add(raw, result)
    reason = ""
    if isinstance(result, LeftOut):
        reason = result.reason
        if tally.left_out.total() > ROWS:
            return None
        everything = spec.model_copy(update={"filter": FilterSpec(), "length": 1})
        result = convert(replace(raw, pictures=tap.pictures), everything, source)
    if not isinstance(result, Episode):
        return None
    return Look(
        raw.name, raw.length, len(result.frames), reason, result.instruction, result.task, result.scene, None,
        result.actions, tap.size, raw.attributes, tap.strip(result.frames) if row < STRIPS else None,
        tuple(len(entry.columns) or np.atleast_2d(raw.columns[entry.key].T).shape[0] for entry in spec.actions),
        EpisodeVectors(
            join_actions(raw.columns, spec.model_copy(update={"stride": 1}), raw.length), states_of(raw, spec)
        ),
        raw.dimension_names,
    )  # fmt: skip


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


class Tap:
    """Passes an episode's pictures on and keeps the first one."""

    def __init__(self, raw: Raw, image: PictureSpec) -> None:
        self._raw = raw
        self._image = image
        self._first: UInt8 | None = None
        self.size = (0, 0)

    def pictures(self, steps: Sequence[int]) -> Iterator[UInt8]:
        """The pictures."""
        for picture in self._raw.pictures(steps):
            if self._first is None:
                self._first = picture
                self.size = picture.shape[0], picture.shape[1]
            yield picture

    def strip(self, frames: UInt8) -> Strip:
        """The row of the sheet."""
        assert self._first is not None
        return strip(frames, shade_outside_crop(self._first, self._image))


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


def strip(frames: UInt8, recorded: UInt8 | None = None) -> Strip:
    """The row of an episode (T, H, W, 3): frames at even distances, the first and the last among them."""
    numbers = sorted({round(index * (len(frames) - 1) / max(1, COLUMNS - 1)) for index in range(COLUMNS)})
    return Strip(recorded, tuple(scale_to_cell(frames[number]) for number in numbers), tuple(numbers))


def scale_to_cell(frame: UInt8) -> UInt8:
    """A frame at the sheet's height: small ones by whole factors, so that their pixels are seen as they are."""
    high, wide = frame.shape[:2]
    image = Image.fromarray(frame)
    if high * 2 <= CELL:
        factor = CELL // high
        return np.asarray(image.resize((wide * factor, high * factor), Image.Resampling.NEAREST))
    return np.asarray(image.resize((max(1, round(wide * CELL / high)), CELL), Image.Resampling.LANCZOS))


def of_simulator(spec: SimulatedRobotSpec, source: str, count: int) -> Looks:
    """Records `count` episodes of a simulated robot (0: all), of its tasks in turn. Raises SourceError."""
    everything = assign(spec)
    turns = [[each for each in everything if each.task == task] for task in spec.tasks]
    order = [own[turn] for turn in range(max(map(len, turns))) for own in turns if turn < len(own)]
    chosen = order[: count or None]
    looks: list[Look] = []
    for task in spec.tasks:
        if not any(each.task == task for each in chosen):
            continue
        simulator = build_simulator(spec, task)
        try:
            episodes = [record(spec, source, each, simulator) for each in chosen if each.task == task]
        finally:
            simulator.close()
        looks += [
            preview_episode(episode, strip(episode.frames) if row < STRIPS else None)
            for row, episode in enumerate(episodes)
        ]
    complete = len(chosen) == len(everything)
    how = f"all {len(chosen)} episodes" if complete else f"{len(chosen)} of {len(everything)} episodes"
    splits = dict(Counter(each.split for each in everything))
    return Looks(f"{how}, recorded here for this", complete, spec.fps, tuple(looks), splits=splits)


def of_store(store: EpisodeStore, count: int) -> Looks:
    """Up to `count` episodes (0: all) of an episode store, spread over it."""
    number = min(len(store), count) if count else len(store)
    looks = []
    for row in range(number):
        episode = store.read(row * len(store) // number)
        looks.append(preview_episode(episode, strip(episode.frames) if row < STRIPS else None))
    complete = number == len(store)
    how = f"all {number} episodes" if complete else f"{number} of {len(store)} episodes; --episodes 0 looks at all"
    splits = dict(Counter(info.split for info in store.infos))
    return Looks(how, complete, store.fps, tuple(looks), splits=splits)


def preview_episode(episode: Episode, row: Strip | None) -> Look:
    """An episode that is taken as it is."""
    length, high, wide, _ = episode.frames.shape
    attributes: dict[str, str] = {"policy": episode.policy}
    if episode.success is not None:
        attributes["success"] = str(episode.success)
    return Look(
        episode.id, length, length, "", episode.instruction, episode.task, episode.scene, episode.split,
        episode.actions, (high, wide), attributes, row,
    )  # fmt: skip
