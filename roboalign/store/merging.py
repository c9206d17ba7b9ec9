"""Putting stores together: their frames are copied as they are, neither decoded nor encoded."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from roboalign.store.layout import StoreError
from roboalign.store.reader import EpisodeStore
from roboalign.store.writer import EpisodeWriter
from roboalign.types import Split

OPEN_STORES = 32
"""Stores that stay open while episodes are taken from many."""


def merge(folder: Path, episodes: Sequence[tuple[Path, int, Split | None]]) -> None:
    """Write to `folder` the store of the given episodes, in this order: each by its store, its index there, and the
    split it gets (its own if None).

    The result has the bytes that writing the episodes themselves would give. Memory does not grow with their number.
    Raises StoreError if none is given or the stores do not fit together; then nothing is written.
    """
    if not episodes:
        raise StoreError(f"{folder}: no episode was added; a store holds at least one")
    stores = _Stores()
    try:
        with EpisodeWriter(folder, fps=stores.open(episodes[0][0]).fps) as writer:
            for path, index, split in episodes:
                writer.append(stores.open(path), index, split=split)
    finally:
        stores.close()


class _Stores:
    """The stores that stay open: the last ones used."""

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
