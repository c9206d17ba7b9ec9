"""The episode store: recorded episodes in few large files, as a LeRobotDataset v3 (see `layout` for its columns).

```
meta/info.json                            features, counts, frames per second
meta/stats.json                           statistics of every feature
meta/tasks.parquet                        instructions
meta/episodes/chunk-000/file-000.parquet  one row per episode: location, length, policy, scene, split, success
data/chunk-000/file-000.parquet           one row per frame, one row group per episode; small frames as PNG
videos/observation.images.main/chunk-000/file-000.mp4  larger frames, several episodes per file
```

`EpisodeWriter` writes a store, `merge` combines stores, `EpisodeStore` reads one, and `Corpus` presents several as one
list of episodes with normalised actions. Writing is deterministic: the same episodes give the same bytes.
"""

# The specs of this package must be importable without loading numpy, so names are resolved on first use.
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roboalign.store.corpus import ActionRange, Corpus
    from roboalign.store.images import decode_png, encode_png
    from roboalign.store.layout import EpisodeInfo, StoreError
    from roboalign.store.merging import merge
    from roboalign.store.reader import EpisodeStore
    from roboalign.store.spec import StorageSpec
    from roboalign.store.writer import EpisodeWriter

__all__ = [
    "ActionRange",
    "Corpus",
    "EpisodeInfo",
    "EpisodeStore",
    "EpisodeWriter",
    "StorageSpec",
    "StoreError",
    "decode_png",
    "encode_png",
    "merge",
]

_MODULES = {
    "ActionRange": "corpus",
    "Corpus": "corpus",
    "EpisodeInfo": "layout",
    "EpisodeStore": "reader",
    "EpisodeWriter": "writer",
    "StorageSpec": "spec",
    "StoreError": "layout",
    "decode_png": "images",
    "encode_png": "images",
    "merge": "merging",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
