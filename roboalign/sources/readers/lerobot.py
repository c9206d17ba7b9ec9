"""Reads LeRobotDatasets of version 2 and 3: Parquet tables, with images inside or as separate videos."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import Columns
from roboalign.sources.readers.encoded import decode
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.lerobot_meta import MetadataEntry, as_text, dimension_names, episodes, open_meta, tasks
from roboalign.sources.readers.lerobot_rows import DataFile, image_bytes, vectors
from roboalign.sources.readers.lerobot_video import EARLY, decode_own_video, decode_shared_video
from roboalign.sources.readers.reader import Damaged, Part, RawEpisode, change_warnings
from roboalign.sources.readers.spec import LerobotSpec
from roboalign.types import UInt8

EPISODES, PARTS = 50, 500
"""Number of episodes in a part, and the number of parts above which parts become larger, because each one reads the
whole index."""
TASK = "task"
"""Value of `instruction` that selects the task table."""
OTHER_STAMPS = "its timestamps do not match the data set's fps; frame k is used for row k"
"""Warning for irregular timestamps."""
_NUMBERS = ("float", "int", "uint", "bool")


class Lerobot:
    """Reads a LeRobotDataset. A part is a run of consecutive episodes, of one data file if they share it."""

    def __init__(self, spec: LerobotSpec, files: Files) -> None:
        self._spec, self._files = spec, files
        self._camera = spec.cameras[0]
        self._meta = open_meta(files)
        self._check()
        self._tasks = tasks(self._meta, files) if spec.instruction_field == TASK else {}
        self._entries = episodes(self._meta, files, self._camera)
        if not self._entries:
            raise SourceError(f"{files.uri} lists no episodes")
        self._widths = {
            key: int(value["shape"][0]) if value.get("shape") else 1
            for key, value in self._meta.features.items()
            if self._numeric(key)
        }
        self._names = {
            key: names
            for key, width in self._widths.items()
            if (names := dimension_names(self._meta.features[key].get("names"), width))
        }

    @property
    def fps(self) -> float:
        """Recorded frames per second, from `meta/info.json`."""
        return self._meta.fps

    def _numeric(self, key: str) -> bool:
        shape = self._meta.features[key].get("shape") or [1]
        whole = isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], int)
        return whole and self._meta.kind(key).startswith(_NUMBERS)

    def _check(self) -> None:
        """Raise SourceError if the spec names a camera or column that the data set lacks."""
        spec, features = self._spec, self._meta.features
        cameras = [key for key in features if self._meta.kind(key) in ("image", "video")]
        if self._camera not in cameras:
            available = ", ".join(sorted(cameras)) or "none"
            raise SourceError(f"camera: the data set has no camera '{self._camera}'; its cameras: {available}")
        camera = features[self._camera]
        details = [each for each in (camera, camera.get("info"), camera.get("video_info")) if isinstance(each, dict)]
        if any(each.get("is_depth_map") or each.get("video.is_depth_map") for each in details):
            raise SourceError(f"camera '{self._camera}' is a depth map, not a colour image")
        numeric = [key for key in features if self._numeric(key)]
        for field, entries, declared in spec.vectors:
            for number, entry in enumerate(entries):
                if entry.key not in numeric:
                    available = ", ".join(sorted(numeric)) or "none"
                    raise SourceError(
                        f"{field}.{number}.key: the data set has no vector '{entry.key}'; its vectors: {available}"
                    )
            widths = [len(e.columns) or (features[e.key].get("shape") or [1])[0] for e in entries]
            if sum(widths) != declared:
                listed = ", ".join(f"{entry.key}: {width}" for entry, width in zip(entries, widths, strict=True))
                name = field.removesuffix("s")
                raise SourceError(f"{name}_width is {declared}, but the data set has {sum(widths)} ({listed})")

    def parts(self) -> list[Part]:
        """Return the parts: runs of the listed episodes."""

        def file(index: int) -> str:
            entry = self._entries[index]
            return entry.data if isinstance(entry, MetadataEntry) and not entry.alone else ""

        runs = []
        size = max(EPISODES, len(self._entries) // PARTS)
        for path, run in groupby(range(len(self._entries)), file):
            indices = list(run)
            for first in range(indices[0], indices[-1] + 1, size):
                runs.append(Part(path or "meta", first, min(first + size, indices[-1] + 1)))
        return runs

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the episodes of a part. A file with several episodes stays open between them."""
        held: DataFile | None = None
        try:
            for entry in self._entries[part.first : part.stop]:
                if isinstance(entry, Damaged):
                    yield entry
                    continue
                try:
                    if held is None or held.path != entry.data:
                        if held is not None:
                            held.close()
                            held = None
                        held = DataFile(self._files, entry.data)
                    yield self._raw(entry, held)
                except DamagedError as error:
                    yield Damaged(entry.name, str(error))
        finally:
            if held is not None:
                held.close()

    def _raw(self, entry: MetadataEntry, data: DataFile) -> RawEpisode:
        first, stop = data.find(entry.number)
        if stop - first != entry.length:
            raise DamagedError(f"{data.path} has {stop - first} rows of it, but {entry.length} frames are listed")
        if entry.length and "frame_index" in data.columns:
            order = vectors(data.column("frame_index", first, stop), "frame_index", 1)[:, 0]
            if not np.array_equal(order, np.arange(len(order))):
                raise DamagedError("its frame_index values are not consecutive")
        instructions = self._instructions(entry, data, first, stop) if entry.length else []
        warnings = change_warnings(instructions)

        def column(key: str) -> Any:
            return vectors(data.column(key, first, stop), key, self._widths[key])

        def images(steps: Sequence[int]) -> Iterator[UInt8]:
            if not entry.video:
                return self._stills(data, first, steps)
            warnings.extend(self._odd_timestamps(data, first, stop))
            return self._frames(entry, steps, warnings)

        return RawEpisode(
            name=entry.name,
            length=entry.length,
            images=images,
            columns=Columns(self._widths, column),
            instruction=next(iter(instructions), ""),
            instructions=instructions,
            attributes=entry.attributes,
            task=entry.attributes.get("task", ""),
            dimension_names=self._names,
            warnings=warnings,
        )

    def _instructions(self, entry: MetadataEntry, data: DataFile, first: int, stop: int) -> list[str]:
        """Return the instruction of each frame, or a single one of the episode; [] for a literal text of the spec."""
        key = self._spec.instruction_field
        if not key:
            return []
        if key == TASK:
            numbers = vectors(data.column("task_index", first, stop), "task_index", 1)[:, 0]
            if int(numbers[0]) not in self._tasks:
                raise DamagedError(f"its task_index is {int(numbers[0])}, which is not in the table of tasks")
            return [self._tasks.get(int(number), "") for number in numbers]
        if key in entry.attributes:
            return [entry.attributes[key]]
        return [as_text(value) or "" for value in data.column(key, first, stop)]

    def _stills(self, data: DataFile, first: int, steps: Sequence[int]) -> Iterator[UInt8]:
        size: Sequence[int] = (-1, -1)
        values = data.stream(self._camera, [first + step for step in steps])
        for step, value in zip(steps, values, strict=True):
            image = decode(image_bytes(value, self._files, step), size, step)
            size = image.shape[:2]
            yield image

    def _odd_timestamps(self, data: DataFile, first: int, stop: int) -> list[str]:
        """Return a warning if the timestamps of the rows do not match the frame rate."""
        if "timestamp" not in data.columns:
            return []
        try:
            stamps = vectors(data.column("timestamp", first, stop), "timestamp", 1)[:, 0].astype(np.float64)
        except DamagedError:  # timestamps are not needed for reading
            return [OTHER_STAMPS]
        regular = np.abs(stamps - np.arange(len(stamps)) / self.fps) < EARLY / self.fps
        return [] if regular.all() else [OTHER_STAMPS]

    def _frames(self, entry: MetadataEntry, steps: Sequence[int], warnings: list[str]) -> Iterator[UInt8]:
        if entry.alone:
            return decode_own_video(self._files, entry.video, steps, entry.length, self.fps, warnings)
        count = round(entry.start * self.fps) + entry.length
        times = [entry.start + step / self.fps for step in steps]
        return decode_shared_video(self._files, entry.video, times, self.fps, count)
