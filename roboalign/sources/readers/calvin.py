"""CALVIN in its own layout: one `.npz` a step, language annotations for stretches of steps."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.arrays import BAD_ARRAY, BYTES, open_npz, read_error
from roboalign.sources.readers.columns import MISSING, Columns, picture
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.pickled import read_pickled
from roboalign.sources.readers.reader import Damaged, Part, Raw, require_key
from roboalign.sources.readers.spec import CalvinSpec
from roboalign.types import UInt8

EPISODES = 25
"""Annotated stretches of a part: about sixty steps each."""
SCENES = "scene_info.npy"
APART = 30
"""Steps that lie at least between two recordings: a second, after which pictures are no longer nearly the same."""
LONGEST = 10_000
"""Steps of a stretch; CALVIN's annotations span 64 at most, and more than this is a damaged annotation."""
WIDEST = 4096
"""Numbers of an action at most, as many as a spec can name."""
LAST = 9_999_999
"""The largest number of a step: file names have seven digits."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One annotation: steps `first` to `last`, both included, as the file has them."""

    number: int
    """Its place among the annotations."""
    first: Any
    last: Any
    instruction: Any
    task: Any
    recording: str = ""
    """What it shares with the stretches that overlap with it or follow closely; they must not be divided."""


class Calvin:
    """The annotated stretches of a subset of CALVIN."""

    def __init__(self, spec: CalvinSpec, files: Files) -> None:
        self.spec = spec
        self.files = files
        self.camera = spec.cameras[0]

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self.spec.fps

    def parts(self) -> list[Part]:
        """Some annotations each, in their order. Raises SourceError if there are none."""
        count = len(self.stretches)
        return [Part(self.spec.subset, first, first + EPISODES) for first in range(0, count, EPISODES)]

    @cached_property
    def stretches(self) -> list[Stretch]:
        """The annotations that lie in the chosen environments, and those of which that cannot be said."""
        path = f"{self.spec.subset}/{self.spec.annotations}"
        found = self._read_pickle(path, "put CALVIN's place into `uri`, or correct `subset` or `annotations`")
        try:
            language, bounds = found["language"], list(found["info"]["indx"])
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
            raise SourceError(f"{path} has {len(bounds)} stretches and {len(texts)} instructions")
        if len(tasks) != len(texts):  # only a name, which the instruction then gives
            tasks = [""] * len(texts)
        pairs = [tuple(pair) if isinstance(pair, tuple | list | np.ndarray) else (pair,) for pair in bounds]
        every = [
            Stretch(number, pair[0], pair[-1] if len(pair) == 2 else None, text, task)
            for number, (pair, text, task) in enumerate(zip(pairs, texts, tasks, strict=True))
        ]
        chosen = (None, *self.spec.environments)
        every = join_stretches(every)
        result = [each for each in every if not self.spec.environments or self.environment(each.first) in chosen]
        if result:
            return result
        known = ", ".join(sorted(self.scenes)) or "none"
        raise SourceError(f"{path} has no stretch in the chosen `environments`; {SCENES} knows {known}")

    def instruction_list(self, language: Mapping[str, object]) -> str:
        """The list among the annotations that the spec's instruction names; '' for a literal text or an attribute."""
        key = self.spec.instruction_field
        return "" if not isinstance(self.spec.instruction, str) and key not in language else key

    @cached_property
    def scenes(self) -> dict[str, tuple[int, int]]:
        """By environment, its first and last step. CALVIN's validation folders have no such file."""
        path = f"{self.spec.subset}/{SCENES}"
        if not self.spec.environments:
            try:
                return self._ranges(path) if self.files.exists(path) else {}
            except SourceError:  # then nothing depends on it
                return {}
        return self._ranges(path)

    def _ranges(self, path: str) -> dict[str, tuple[int, int]]:
        found = self._read_pickle(
            path, f"without it leave `environments` empty; {self.spec.subset}/ needs it to choose"
        )
        try:
            # Older copies say scene_A where newer ones say calvin_scene_A.
            named = [(re.fullmatch(r".*scene_([A-D])", name), ends) for name, ends in found.items()]
            ranges = {match[1]: (int(first), int(last)) for match, (first, last) in named if match}
            if len(ranges) < len(named):
                raise ValueError("it has other names")
        except (AttributeError, TypeError, ValueError):
            raise SourceError(f"{path} is not a table of environments, such as calvin_scene_A: [0, 611098]") from None
        return ranges

    def environment(self, step: Any) -> str | None:
        """The environment that a step was recorded in; None if that is not known."""
        return next((name for name, (a, b) in self.scenes.items() if is_step(step) and a <= step <= b), None)

    def _read_pickle(self, path: str, remedy: str) -> Any:
        try:
            with self.files.open(path) as file:
                return read_pickled(file)
        except MISSING:
            raise SourceError(f"{self.files.uri} has no {path}; {remedy}") from None
        except (DamagedError, OSError) as error:
            raise SourceError(f"{self.files.uri}/{path} cannot be read: {error}") from None

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """Some of the stretches, in the order of the annotations."""
        for stretch in self.stretches[part.first : part.stop]:
            name = f"{self.spec.subset}#{stretch.number}"
            try:
                yield self._raw(name, stretch)
            except DamagedError as error:
                yield Damaged(name, str(error))

    def _raw(self, name: str, stretch: Stretch) -> Raw:
        first, last = step_number(stretch.first), step_number(stretch.last)
        if last - first >= LONGEST:
            raise DamagedError(f"it runs from step {first} to step {last}, more than {LONGEST} steps")
        environments = {self.environment(first), self.environment(last)}
        if self.spec.environments and (None in environments or len(environments) > 1):
            raise DamagedError(f"its steps {first} to {last} lie in no single environment of {SCENES}")
        steps = range(first, last + 1)
        named = self.spec.vector_keys
        read: dict[str, Any] = {}

        def column(key: str) -> Any:
            if not read:  # all columns in one go through the files
                rows: list[dict[str, Any]] = [self.step(step, named, WIDEST) for step in steps]
                read.update({each: stack_rows([row[each] for row in rows], each, first) for each in named})
            return read[key]

        def pictures(frames: Sequence[int]) -> Iterator[UInt8]:
            for frame in frames:
                found = self.step(steps[frame], (self.camera,))[self.camera]
                try:
                    yield picture(found, self.camera)
                except DamagedError as error:
                    raise DamagedError(f"at step {steps[frame]} {error}") from None

        task = stretch.task if isinstance(stretch.task, str) else ""
        attributes = {"subset": self.spec.subset, "task": task, "recording": stretch.recording}
        if environment := self.environment(first):
            attributes["environment"] = environment
        return Raw(
            name=name,
            length=len(steps),
            pictures=pictures,
            columns=Columns(named, column),
            instruction=stretch.instruction if isinstance(stretch.instruction, str) else "",
            attributes=attributes,
            task=task,
        )

    def step(self, number: int, keys: tuple[str, ...], most: int = BYTES) -> dict[str, Any]:
        """The named arrays of a step, or all; the others are not unpacked. Raises DamagedError, naming the file, also
        if one has more than `most` numbers."""
        path = f"{self.spec.subset}/episode_{number:07d}.npz"
        try:
            with self.files.open(path) as file, open_npz(file) as arrays:
                for key in keys:
                    require_key(arrays, key, "array")
                found = {key: arrays[key] for key in keys or arrays}
            if large := [key for key, array in found.items() if array.size > most]:
                raise DamagedError(f"its array '{large[0]}' has {found[large[0]].size} numbers, more than {most}")
            return found
        except MISSING:
            raise DamagedError(f"{path} is missing") from None
        except OSError as error:
            raise read_error(f"{self.files.uri}/{path}", error) from None
        except DamagedError as error:
            raise DamagedError(f"{path} cannot be used: {error}") from None
        except BAD_ARRAY as error:
            raise DamagedError(f"{path} is not an .npz file, or a damaged one: {error}") from None


def stack_rows(rows: list[Any], key: str, first: int) -> Any:
    """The rows of an array (steps, width). Raises DamagedError if their shapes differ."""
    for number, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise DamagedError(f"its '{key}' has shape {row.shape} at step {first + number}, {rows[0].shape} before")
    return np.stack(rows) if rows else np.empty((0,))


def join_stretches(stretches: list[Stretch]) -> list[Stretch]:
    """The stretches in their order, each with the name of its recording: the first step of it. CALVIN annotates a
    third of its steps several times, so that many stretches show the same pictures."""
    names: dict[int, str] = {}
    start = end = -APART
    sound = [each for each in stretches if is_step(each.first) and is_step(each.last)]
    for each in sorted(sound, key=lambda each: int(each.first)):
        if each.first - end > APART:
            start = each.first
        end = max(end, int(each.last))
        names[each.number] = f"{start:07d}"
    return [replace(each, recording=names.get(each.number, "")) for each in stretches]


def is_step(value: Any) -> bool:
    """Whether a value is the number of a step."""
    return isinstance(value, int | np.integer) and bool(0 <= value <= LAST)


def step_number(value: Any) -> int:
    """The number of a step. Raises DamagedError if the value is none."""
    if not is_step(value):
        short = isinstance(value, str | float | np.generic) or (isinstance(value, int) and abs(value) < 10**18)
        shown = str(value)[:40] if short else f"of type {type(value).__name__}"
        raise DamagedError(f"one of its bounds is {shown}, not the number of a step from 0 to {LAST}")
    return int(value)
