"""The recorded episodes of a source, from which environments start, and the options of `reset`."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Text
from numpy.typing import NDArray

from roboalign.env.errors import EnvError
from roboalign.io import find_output, read_json
from roboalign.pipeline.video_models import SOURCES
from roboalign.store import Corpus
from roboalign.types import UInt8

MAX_INSTRUCTION = 1000
"""Longest instruction in characters."""
VECTOR_OPTIONS = {"episodes", "images", "instructions", "tasks", "reset_mask"}


@dataclass(frozen=True)
class InitialScene:
    """The start of one copy: the first frame of a recorded episode, or an image that the caller gives."""

    image: UInt8
    """(H, W, 3)."""
    instruction: str
    task: str | None
    """None if it is not known."""
    episode: str | None
    """Id of the recorded episode; None for an image of the caller's."""


class SourceEpisodes:
    """The recorded episodes of one source of an experiment."""

    def __init__(self, root: Path, source: str) -> None:
        """Raises EnvError if the experiment does not have the source, StageError if its index is missing."""
        index = find_output(root, SOURCES)
        listed = read_json(index)["sources"]
        if source not in listed:
            raise EnvError(f"the experiment has no source '{source}'; it has {', '.join(listed)}")
        whole = Corpus.open(index)
        self.source, self.corpus = source, whole.filter(source=source)
        self.fps = float(listed[source]["fps"])
        self.numbers = {info.id: number for number, info in enumerate(self.corpus.infos)}
        splits = [info.split for info in self.corpus.infos]
        held = next((split for split in ("test", "validation") if split in splits), "train")
        self.held_out = tuple(number for number, split in enumerate(splits) if split == held)
        """Episodes to draw from: of the test split, or of the next one that has any."""
        self.shape: tuple[int, ...] = self.corpus.frames(0, 0, 1).shape[1:]
        known = {char for info in self.corpus.infos for char in info.instruction}
        self.instructions = Text(MAX_INSTRUCTION, min_length=0, charset=frozenset(known | set(string.printable)))
        """The space of instructions."""

    def scene(self, episode: str) -> InitialScene:
        """The start of a recorded episode. Raises EnvError if there is no such episode."""
        number = self.numbers.get(episode) if isinstance(episode, str) else None
        if number is None:
            examples = ", ".join(list(self.numbers)[:3])
            raise EnvError(f"{self.source} has no episode {episode!r}; it has {examples}, …")
        info = self.corpus.infos[number]
        return InitialScene(self.corpus.frames(number, 0, 1)[0], info.instruction, info.task, info.id)

    def draw(self, rng: np.random.Generator) -> InitialScene:
        """The start of a held-out episode."""
        return self.scene(self.corpus.infos[self.held_out[int(rng.integers(len(self.held_out)))]].id)

    def scene_of_image(self, image: object, instruction: object, task: object) -> InitialScene:
        """A start from an image of the caller's. Raises EnvError if an argument does not fit."""
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.shape != self.shape:
            raise EnvError(f"an image must be uint8 of shape {self.shape}, not {pixels.dtype} of {pixels.shape}")
        if not isinstance(instruction, str) or instruction not in self.instructions:
            raise EnvError(
                f"{instruction!r} is not an instruction: a text of at most {MAX_INSTRUCTION} characters of ASCII and "
                "of the recorded instructions is needed"
            )
        if task is not None and not isinstance(task, str):
            raise EnvError(f"{task!r} is not the name of a task")
        return InitialScene(pixels.copy(), instruction, task, None)


@dataclass(frozen=True)
class ResetOptions:
    """The options of a vector environment's `reset`: for each copy whether it is reset, and from where."""

    mask: NDArray[np.bool_]
    """(N,), the copies to reset."""
    scenes: tuple[InitialScene | None, ...]
    """The start of each copy; None to draw one."""


def read_options(options: Mapping[str, Any] | None, count: int, episodes: SourceEpisodes) -> ResetOptions:
    """Read the options of `reset` for `count` copies. Raises EnvError if they are not valid."""
    given = dict(options or {})
    for key in given.keys() - VECTOR_OPTIONS:
        close = get_close_matches(str(key), VECTOR_OPTIONS, 1)
        hint = f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(sorted(VECTOR_OPTIONS))}"
        raise EnvError(f"unknown option '{key}' of reset{hint}")
    mask = np.asarray(given.get("reset_mask", np.ones(count, np.bool_)))
    if mask.shape != (count,) or mask.dtype != np.bool_ or not mask.any():
        raise EnvError(f"reset_mask must be ({count},) of bool, with at least one True")
    ids, images = given.get("episodes"), given.get("images")
    if ids is not None and images is not None:
        raise EnvError("reset takes episodes or images, not both")
    if images is None and (given.get("instructions") is not None or given.get("tasks") is not None):
        raise EnvError("instructions and tasks of reset belong to images; give images, too")
    scenes: list[InitialScene | None] = [None] * count
    if ids is not None:
        ids = _of_each_copy("episodes", ids, count)
        scenes = [episodes.scene(ids[i]) if mask[i] and ids[i] is not None else None for i in range(count)]
    elif images is not None:
        pixels = _of_each_copy("images", images, count)
        texts = _of_each_copy("instructions", given.get("instructions"), count)
        tasks = [None] * count if given.get("tasks") is None else _of_each_copy("tasks", given["tasks"], count)
        scenes = [episodes.scene_of_image(pixels[i], texts[i], tasks[i]) if mask[i] else None for i in range(count)]
    return ResetOptions(mask, tuple(scenes))


def _of_each_copy(name: str, values: Any, count: int) -> Sequence[Any]:
    """`values` if it is a sequence with one item for each of `count` copies. Raises EnvError."""
    if isinstance(values, str | bytes) or not hasattr(values, "__len__") or len(values) != count:
        raise EnvError(f"{name} of reset must have one item for each of the {count} copies")
    result: Sequence[Any] = values
    return result
