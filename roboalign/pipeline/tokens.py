"""The token cache of the world model's training segments, encoded shard by shard."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from roboalign.pipeline.sharding import ModelExecutor
from roboalign.store import Corpus
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.model import load_tokenizer
from roboalign.world_model.segment_spec import SegmentSpec
from roboalign.world_model.segments import (
    TokenShard,
    encode_shard,
    list_segments,
    split_into_shards,
    write_index,
)


@dataclass(frozen=True)
class TokenInputs:
    """The inputs of the tokens: the files of the corpus's index and of the tokenizer, and the segments."""

    sources: Path
    tokenizer: Path
    segment: SegmentSpec
    contexts: int = 1


@dataclass(frozen=True)
class _TokenPiece:
    """A shard that a worker encodes into `folder`."""

    inputs: TokenInputs
    shard: TokenShard
    folder: Path


def encode_tokens(
    inputs: TokenInputs, output: Path, scratch: Path, executor: ModelExecutor, log: Callable[[str], None]
) -> int:
    """Write the token cache of the corpus's train split to the folder `output`. Returns the number of segments.

    Shards are encoded in `scratch`, from where a killed run goes on. `log` gets lines of progress.
    """
    segments = list_segments(_load_corpus(inputs.sources), inputs.segment.frames, inputs.segment.stride)
    shards, done = split_into_shards(segments), 0
    pieces = [_TokenPiece(inputs, shard, scratch) for shard in shards]
    for shard, message in zip(shards, executor.map(_encode_piece, pieces), strict=True):
        done += len(shard.segments)
        if message:
            log(message)
        log(f"encoded {done} of {len(segments)} segments")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    for file in scratch.glob("segments-*.safetensors"):
        file.rename(output / file.name)
    write_index(output, shards)
    return len(segments)


@cache
def _load_corpus(sources: Path) -> Corpus:
    return Corpus.open(sources).filter(split="train")


@cache
def _load_tokenizer(file: Path, device: torch.device) -> BatchInvariantTokenizer:
    return BatchInvariantTokenizer(load_tokenizer(file).to(device))


def _encode_piece(piece: _TokenPiece, device: torch.device) -> str:
    """`encode_shard` with the corpus and the tokenizer of this process."""
    inputs = piece.inputs
    return encode_shard(
        _load_tokenizer(inputs.tokenizer, device), _load_corpus(inputs.sources), inputs.segment, piece.shard,
        piece.folder, contexts=inputs.contexts, device=device,
    )  # fmt: skip
