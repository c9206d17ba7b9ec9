"""Base of the readers whose data sets have one file per episode."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import Damaged, Part, RawEpisode

EPISODES = 20
"""Number of files in a part."""


class FileEpisodes:
    """Reads the files below a folder that match any of some patterns, each as one episode, by `read_episode`."""

    def __init__(
        self, files: Files, patterns: Sequence[str], fps: float, read_episode: Callable[[str], RawEpisode]
    ) -> None:
        self._files, self._patterns, self._read_episode = files, patterns, read_episode
        self._fps = fps

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self._fps

    @cached_property
    def paths(self) -> list[str]:
        """Paths of the files relative to the URI, in numeric order (episode_2 before episode_10).

        Raises SourceError if there are none.
        """
        matching = {path for pattern in self._patterns for path in self._files.glob(pattern)}
        if not matching:
            patterns = " or ".join(self._patterns)
            raise SourceError(f"{self._files.uri} contains no file {patterns}; correct `uri`")
        return sorted(matching, key=numeric_order)

    def parts(self) -> list[Part]:
        """Return the parts, of EPISODES files each."""
        return [Part(self.paths[first], first, first + EPISODES) for first in range(0, len(self.paths), EPISODES)]

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the episodes of a part, in the order of their files."""
        for path in self.paths[part.first : part.stop]:
            try:
                yield self._read_episode(path)
            except DamagedError as error:
                yield Damaged(path, str(error))


def numeric_order(path: str) -> tuple[str, int, str]:
    """Sort key of a path: its folder and name without the trailing number, then that number."""
    folder, _, name = path.rpartition("/")
    stem = name.partition(".")[0]
    digits = stem[len(stem.rstrip("0123456789")) :]
    return f"{folder}/{stem.removesuffix(digits)}", int(digits or -1), name
