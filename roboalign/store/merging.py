"""Merges stores: frames are copied without decoding or encoding them."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from roboalign.store.layout import StoreError
from roboalign.store.reader import EpisodeStore
from roboalign.store.writer import EpisodeWriter
from roboalign.types import Split

OPEN_STORES = 32
"""Largest number of stores that stay open."""


def merge(folder: Path, episodes: Sequence[tuple[Path, int, Split | None]]) -> None:
    """Write a store with the given episodes to `folder`.

    The result has the same bytes as a store to which the episodes were written directly. Memory use does not grow with
    their number.

    Raises StoreError, without writing anything, if there are no episodes or the stores are incompatible.

    Args:
        folder: folder of the new store.
        episodes: (store folder, index in the store, split) of each episode, in order; the split is unchanged if None.
    """
    if not episodes:
        raise StoreError(f"{folder}: no episode was added; a store needs at least one")
    stores = _Stores()
    try:
        with EpisodeWriter(folder, fps=stores.open(episodes[0][0]).fps) as writer:
            for path, index, split in episodes:
                writer.append(stores.open(path), index, split=split)
    finally:
        stores.close()


class _Stores:
    """The most recently used open stores."""

    def __init__(self) -> None:
        self._stores: OrderedDict[Path, EpisodeStore] = OrderedDict()

    def open(self, path: Path) -> EpisodeStore:
        if path not in self._stores:
            self._stores[path] = EpisodeStore(path)
            if len(self._stores) > OPEN_STORES:
                self._stores.popitem(last=False)[1].close()
        self._stores.move_to_end(path)
        return self._stores[path]

    def close(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()
