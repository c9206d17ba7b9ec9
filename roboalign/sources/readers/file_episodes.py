"""Data sets that keep each episode in a file of its own."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import Damaged, Part, Raw

EPISODES = 20
"""Files of a part."""


class FileEpisodes:
    """The files below a folder that match some patterns, each read as one episode by `read_episode`."""

    def __init__(self, files: Files, patterns: Sequence[str], fps: float, read_episode: Callable[[str], Raw]) -> None:
        self._files, self._patterns, self._read_episode = files, patterns, read_episode
        self._fps = fps

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self._fps

    @cached_property
    def paths(self) -> list[str]:
        """The files, relative to the URI: episode_2 before episode_10. Raises SourceError if there are none."""
        found = {path for pattern in self._patterns for path in self._files.glob(pattern)}
        if not found:
            patterns = " or ".join(self._patterns)
            raise SourceError(f"{self._files.uri} holds no file {patterns}; correct `uri`")
        return sorted(found, key=by_number)

    def parts(self) -> list[Part]:
        """Some files each."""
        return [Part(self.paths[first], first, first + EPISODES) for first in range(0, len(self.paths), EPISODES)]

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """The episodes of a part, in the order of their files."""
        for path in self.paths[part.first : part.stop]:
            try:
                yield self._read_episode(path)
            except DamagedError as error:
                yield Damaged(path, str(error))


def by_number(path: str) -> tuple[str, int, str]:
    """Sorts the files of a folder by the number at the end of their names."""
    folder, _, name = path.rpartition("/")
    stem = name.partition(".")[0]
    digits = stem[len(stem.rstrip("0123456789")) :]
    return f"{folder}/{stem.removesuffix(digits)}", int(digits or -1), name
