"""Token caches encoded in this process."""

from pathlib import Path
from typing import Any

from roboalign.store import Corpus
from roboalign.world_model.segment_spec import SegmentSpec
from roboalign.world_model.segments import (
    Segments,
    encode_shard,
    list_segments,
    open_segments,
    split_into_shards,
    write_index,
)


def encode_segments(
    tokenizer: Any,
    corpus: Corpus,
    spec: SegmentSpec,
    folder: Path,
    *,
    contexts: int = 1,
    batch: int = 16,
    shard_size: int = 20,
) -> Segments:
    """The segments of a corpus by way of a cache in `folder`."""
    shards = split_into_shards(list_segments(corpus, spec.frames, spec.stride), shard_size)
    folder.mkdir(exist_ok=True)
    for shard in shards:
        encode_shard(tokenizer, corpus, spec, shard, folder, contexts=contexts, batch=batch)
    write_index(folder, shards)
    return open_segments(folder)
