"""The episode store: recorded episodes as few large files, a LeRobotDataset v3 (see `layout` for its columns).

```
meta/info.json                            features, counts, frames per second
meta/stats.json                           statistics of every feature
meta/tasks.parquet                        the instructions
meta/episodes/chunk-000/file-000.parquet  one row an episode: its place, length, policy, scene, split, success
data/chunk-000/file-000.parquet           one row a frame, one row group an episode; small frames as PNG
videos/observation.images.main/chunk-000/file-000.mp4  larger frames, several episodes a file
```

`EpisodeWriter` writes a store, `merge` joins some, `EpisodeStore` reads one, and `Corpus` presents several as one list
of episodes with actions on a common scale. The same episodes give the same bytes.
"""

# The specs of this package are read where numpy must not be loaded: names are looked up when they are first used.
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

_HOMES = {
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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
