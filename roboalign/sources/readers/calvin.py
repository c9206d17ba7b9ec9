"""Reads CALVIN in its original layout: one `.npz` file per step, and language annotations of segments of steps."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.arrays import BAD_ARRAY, BYTES, open_npz, read_error
from roboalign.sources.readers.columns import MISSING, Columns, as_image
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.pickled import read_pickled
from roboalign.sources.readers.reader import Damaged, Part, RawEpisode, require_key
from roboalign.sources.readers.spec import CalvinSpec
from roboalign.types import UInt8

EPISODES = 25
"""Number of annotated segments in a part, of about sixty steps each."""
SCENES = "scene_info.npy"
APART = 30
"""Smallest gap in steps between two recordings: one second, after which images differ noticeably."""
LONGEST = 10_000
"""Largest number of steps of a segment. CALVIN's have at most 64; a longer one is a damaged annotation."""
WIDEST = 4096
"""Largest width of an action, as in the spec."""
LAST = 9_999_999
"""Largest step number: file names have seven digits."""


@dataclass(frozen=True, slots=True)
class AnnotatedSegment:
    """One annotation: steps `first` to `last`, both inclusive, as in the file."""

    number: int
    """Index of the annotation."""
    first: Any
    last: Any
    instruction: Any
    task: Any
    recording: str = ""
    """Name shared by overlapping or adjacent segments, which splits must not divide."""


class Calvin:
    """Reads the annotated segments of a subset of CALVIN."""

    def __init__(self, spec: CalvinSpec, files: Files) -> None:
        self.spec = spec
        self.files = files
        self.camera = spec.cameras[0]

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self.spec.fps

    def parts(self) -> list[Part]:
        """Return the parts, of EPISODES annotations each. Raises SourceError if there are none."""
        count = len(self.segments)
        return [Part(self.spec.subset, first, first + EPISODES) for first in range(0, count, EPISODES)]

    @cached_property
    def segments(self) -> list[AnnotatedSegment]:
        """The annotations in the chosen environments, and those whose environment is unknown."""
        path = f"{self.spec.subset}/{self.spec.annotations}"
        annotations = self._read_pickle(path, "set `uri` to the folder of CALVIN, or correct `subset` or `annotations`")
        try:
            language, bounds = annotations["language"], list(annotations["info"]["indx"])
            tasks = list(language.get("task", [""] * len(bounds)))
            texts = [""] * len(bounds)
            if key := self.instruction_list(language):
                require_key(language, key, "list of instructions")
                texts = list(language[key])
        except DamagedError as error:
            raise SourceError(f"{path}: {error}; correct `instruction`") from None
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            raise SourceError(f"{path} is not a language annotation: it needs language/ann and info/indx") from None
        if len(bounds) != len(texts):
            raise SourceError(f"{path} has {len(bounds)} segments and {len(texts)} instructions")
        if len(tasks) != len(texts):  # the task is only a name; the instruction replaces it
            tasks = [""] * len(texts)
        pairs = [tuple(pair) if isinstance(pair, tuple | list | np.ndarray) else (pair,) for pair in bounds]
        annotated = [
            AnnotatedSegment(number, pair[0], pair[-1] if len(pair) == 2 else None, text, task)
            for number, (pair, text, task) in enumerate(zip(pairs, texts, tasks, strict=True))
        ]
        chosen = (None, *self.spec.environments)
        annotated = assign_recordings(annotated)
        result = [each for each in annotated if not self.spec.environments or self.environment(each.first) in chosen]
        if result:
            return result
        known = ", ".join(sorted(self.scenes)) or "none"
        raise SourceError(f"{path} has no segment in the chosen `environments`; {SCENES} lists {known}")

    def instruction_list(self, language: Mapping[str, object]) -> str:
        """Return the key of the list of instructions in the annotations; '' for a literal text or an attribute."""
        key = self.spec.instruction_field
        return "" if not isinstance(self.spec.instruction, str) and key not in language else key

    @cached_property
    def scenes(self) -> dict[str, tuple[int, int]]:
        """First and last step of each environment; empty if the file is missing, as in CALVIN's validation folders."""
        path = f"{self.spec.subset}/{SCENES}"
        if not self.spec.environments:
            try:
                return self._ranges(path) if self.files.exists(path) else {}
            except SourceError:  # not needed if no environments are chosen
                return {}
        return self._ranges(path)

    def _ranges(self, path: str) -> dict[str, tuple[int, int]]:
        table = self._read_pickle(path, f"leave `environments` empty, or copy the file into {self.spec.subset}/")
        try:
            # Older copies have scene_A, newer ones calvin_scene_A.
            named = [(re.fullmatch(r".*scene_([A-D])", name), ends) for name, ends in table.items()]
            ranges = {match[1]: (int(first), int(last)) for match, (first, last) in named if match}
            if len(ranges) < len(named):
                raise ValueError("unknown names")
        except (AttributeError, TypeError, ValueError):
            raise SourceError(f"{path} is not a table of environments, such as calvin_scene_A: [0, 611098]") from None
        return ranges

    def environment(self, step: Any) -> str | None:
        """Return the environment of a step; None if it is unknown."""
        return next((name for name, (a, b) in self.scenes.items() if is_step(step) and a <= step <= b), None)

    def _read_pickle(self, path: str, remedy: str) -> Any:
        try:
            with self.files.open(path) as file:
                return read_pickled(file)
        except MISSING:
            raise SourceError(f"{self.files.uri} has no {path}; {remedy}") from None
        except (DamagedError, OSError) as error:
            raise SourceError(f"{self.files.uri}/{path} cannot be read: {error}") from None

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the segments of a part, in the order of the annotations."""
        for segment in self.segments[part.first : part.stop]:
            name = f"{self.spec.subset}#{segment.number}"
            try:
                yield self._raw(name, segment)
            except DamagedError as error:
                yield Damaged(name, str(error))

    def _raw(self, name: str, segment: AnnotatedSegment) -> RawEpisode:
        first, last = step_number(segment.first), step_number(segment.last)
        if last - first >= LONGEST:
            raise DamagedError(f"it runs from step {first} to step {last}, more than {LONGEST} steps")
        environments = {self.environment(first), self.environment(last)}
        if self.spec.environments and (None in environments or len(environments) > 1):
            raise DamagedError(f"its steps {first} to {last} are not in a single environment of {SCENES}")
        steps = range(first, last + 1)
        named = self.spec.vector_keys
        read: dict[str, Any] = {}

        def column(key: str) -> Any:
            if not read:  # all columns are read in one pass over the files
                rows: list[dict[str, Any]] = [self.step(step, named, WIDEST) for step in steps]
                read.update({each: stack_rows([row[each] for row in rows], each, first) for each in named})
            return read[key]

        def images(frames: Sequence[int]) -> Iterator[UInt8]:
            for frame in frames:
                array = self.step(steps[frame], (self.camera,))[self.camera]
                try:
                    yield as_image(array, self.camera)
                except DamagedError as error:
                    raise DamagedError(f"at step {steps[frame]} {error}") from None

        task = segment.task if isinstance(segment.task, str) else ""
        attributes = {"subset": self.spec.subset, "task": task, "recording": segment.recording}
        if environment := self.environment(first):
            attributes["environment"] = environment
        return RawEpisode(
            name=name,
            length=len(steps),
            images=images,
            columns=Columns(named, column),
            instruction=segment.instruction if isinstance(segment.instruction, str) else "",
            attributes=attributes,
            task=task,
        )

    def step(self, number: int, keys: tuple[str, ...], max_values: int = BYTES) -> dict[str, Any]:
        """Load arrays of a step.

        Raises DamagedError, which names the file, if the file or an array is missing or invalid.

        Args:
            number: step number.
            keys: arrays to load; empty for all.
            max_values: largest number of values in an array.
        """
        path = f"{self.spec.subset}/episode_{number:07d}.npz"
        try:
            with self.files.open(path) as file, open_npz(file) as arrays:
                for key in keys:
                    require_key(arrays, key, "array")
                loaded = {key: arrays[key] for key in keys or arrays}
            if too_large := [key for key, array in loaded.items() if array.size > max_values]:
                raise DamagedError(
                    f"its array '{too_large[0]}' has {loaded[too_large[0]].size} numbers, more than {max_values}"
                )
            return loaded
        except MISSING:
            raise DamagedError(f"{path} is missing") from None
        except OSError as error:
            raise read_error(f"{self.files.uri}/{path}", error) from None
        except DamagedError as error:
            raise DamagedError(f"{path} cannot be used: {error}") from None
        except BAD_ARRAY as error:
            raise DamagedError(f"{path} is not an .npz file, or a damaged one: {error}") from None


def stack_rows(rows: list[Any], key: str, first: int) -> Any:
    """Stack the rows of an array to (steps, width). Raises DamagedError if their shapes differ."""
    for number, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise DamagedError(f"its '{key}' has shape {row.shape} at step {first + number}, {rows[0].shape} before")
    return np.stack(rows) if rows else np.empty((0,))


def assign_recordings(segments: list[AnnotatedSegment]) -> list[AnnotatedSegment]:
    """Assign to each segment the name of its recording, which is the recording's first step.

    CALVIN annotates a third of its steps more than once, so that many segments show the same images.
    """
    names: dict[int, str] = {}
    start = end = -APART
    sound = [each for each in segments if is_step(each.first) and is_step(each.last)]
    for each in sorted(sound, key=lambda each: int(each.first)):
        if each.first - end > APART:
            start = each.first
        end = max(end, int(each.last))
        names[each.number] = f"{start:07d}"
    return [replace(each, recording=names.get(each.number, "")) for each in segments]


def is_step(value: Any) -> bool:
    """Whether a value is a valid step number."""
    return isinstance(value, int | np.integer) and bool(0 <= value <= LAST)


def step_number(value: Any) -> int:
    """Convert a value to a step number. Raises DamagedError if it is not one."""
    if not is_step(value):
        short = isinstance(value, str | float | np.generic) or (isinstance(value, int) and abs(value) < 10**18)
        shown = str(value)[:40] if short else f"of type {type(value).__name__}"
        raise DamagedError(f"one of its bounds is {shown}, not the number of a step from 0 to {LAST}")
    return int(value)
