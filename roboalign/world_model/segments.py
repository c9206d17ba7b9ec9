"""Training segments as tokens; every (context, later frame) pair is encoded once, by the stage `tokens`.

The token cache is a folder of safetensors files, each of the segments of some episodes. They are written atomically, so
that a killed run encodes only the missing ones, and memory-mapped when read, so that a large corpus need not fit into
memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign import checkpoint
from roboalign.io import read_json, write_json
from roboalign.store import Corpus
from roboalign.types import Float32, UInt8
from roboalign.video import frames_to_video
from roboalign.world_model.prompts import join_contexts
from roboalign.world_model.segment_spec import SegmentSpec

SHARD = 2048
"""Least segments of one file of the token cache, except for the last."""
INDEX = "index.json"
"""The file of a token cache that lists the others."""
FIELDS = {"context", "dynamics", "actions", "action_mask", "proprioception", "episode", "start"}
"""The tensors of a file, the fields of its samples."""


class ContextLike(Protocol):
    """An encoded context frame; `tokens` is the prompt (B, Nc + Nd) of layout.py."""

    tokens: Tensor


ContextT = TypeVar("ContextT", bound=ContextLike)


class Codec(Protocol[ContextT]):
    """A tokenizer, as far as segments and measurements use it."""

    def encode_context(self, frames: Tensor) -> ContextT:
        """The context of frames (B, 3, H, W)."""
        ...

    def encode(self, context: ContextT, frames: Tensor) -> Tensor:
        """Dynamics tokens (B, F, Nd) of frames (B, F, 3, H, W)."""
        ...

    def decode(self, context: ContextT, tokens: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) of dynamics tokens (B, F, Nd)."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an episode: the context is frame `start`, the predicted frames are the `frames` after it."""

    episode: int
    start: int
    frames: int


def list_segments(corpus: Corpus, frames: int, stride: int) -> list[Segment]:
    """All segments of the corpus, in order; an episode of at most `frames` frames gives none."""
    return [
        Segment(number, start, frames)
        for number, info in enumerate(corpus.infos)
        for start in range(0, info.length - frames, stride)
    ]


def leading_actions(actions: Float32, segment: Segment) -> Tensor:
    """The actions (F, A) that lead to the segment's frames: the first leads from the context frame to the next."""
    return torch.from_numpy(actions[segment.start : segment.start + segment.frames].copy())


class Segments(Dataset[dict[str, Tensor]]):
    """Tokenised segments. A sample is a dict:

    `context` (Nc + Nd,), a prompt, or (2 Nc + Nd,) of two contexts, and `dynamics` (F, Nd), int64 codes; `actions`
    (F, A), action f leads to frame f; `action_mask` (A,), bool; `proprioception` (P,) at the context frame, NaN where
    unknown and in contexts that are reconstructions; `episode` and `start`, its place in the corpus.
    """

    def __init__(self, shards: list[dict[str, Tensor]]) -> None:
        self.shards = shards
        self.ends = torch.tensor([len(shard["start"]) for shard in shards], dtype=torch.long).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(torch.searchsorted(self.ends, index, right=True))
        shard = self.shards[number]
        row = index - (int(self.ends[number]) - len(shard["start"]))
        sample = {name: tensor[row] for name, tensor in shard.items()}
        return sample | {"context": sample["context"].long(), "dynamics": sample["dynamics"].long()}


@dataclass(frozen=True, slots=True)
class TokenShard:
    """One file of the token cache: the segments of some episodes in succession. It travels between processes."""

    file: str
    segments: tuple[Segment, ...]


def split_into_shards(segments: Sequence[Segment], size: int = SHARD) -> list[TokenShard]:
    """Shards of whole episodes, of at least `size` segments each except for the last.

    They depend on the segments alone, not on who encodes them. `segments` are ordered by episode.
    """
    shards: list[TokenShard] = []
    part: list[Segment] = []
    for _, episode in groupby(segments, lambda segment: segment.episode):
        part += episode
        if len(part) >= size:
            shards.append(TokenShard(f"segments-{len(shards):05d}.safetensors", tuple(part)))
            part = []
    if part:
        shards.append(TokenShard(f"segments-{len(shards):05d}.safetensors", tuple(part)))
    return shards


def encode_shard(
    tokenizer: Codec[ContextT],
    corpus: Corpus,
    spec: SegmentSpec,
    shard: TokenShard,
    folder: Path,
    *,
    contexts: int = 1,
    device: torch.device | str = "cpu",
    batch: int = 16,
) -> str:
    """Encode a shard into its file in `folder`, unless a whole one is there. Returns what was wrong with an old file.

    Args:
        tokenizer: Gives the same tokens in any batch.
        corpus: The episodes.
        spec: Which contexts are re-encoded.
        shard: The segments.
        folder: The token cache. It must be keyed by all that the tokens depend on (a stage's scratch folder is).
        contexts: With two, the frame that a prompt's rollout began with is the first of its context's `refreshes`.
        device: Device of the tokenizer.
        batch: Segments encoded at a time.
    """
    file, message = folder / shard.file, ""
    if file.exists():
        try:
            checkpoint.load_scratch(file)
            return ""
        except checkpoint.CheckpointError as error:
            message = f"{error}; renamed to {checkpoint.set_aside(file).name}, its segments are encoded again"
    checkpoint.save_scratch(file, _encode(tokenizer, corpus, shard.segments, spec, contexts, device, batch))
    return message


def write_index(folder: Path, shards: Sequence[TokenShard]) -> None:
    """Write the index of a token cache: its files in order, each with its number of segments."""
    write_json(folder / INDEX, {shard.file: len(shard.segments) for shard in shards})


def open_segments(folder: Path) -> Segments:
    """The segments of a token cache; memory-mapped.

    Raises CheckpointError if a file is missing, damaged, or does not hold the segments that the index names.
    """
    shards = []
    for name, count in read_json(folder / INDEX).items():
        tensors, _ = checkpoint.load_scratch(folder / name)
        if tensors.keys() != FIELDS or any(len(tensor) != count for tensor in tensors.values()):
            raise checkpoint.CheckpointError(
                f"{folder / name}: does not hold the {count} segments that {INDEX} names; run `dvc repro tokens`"
            )
        shards.append(tensors)
    return Segments(shards)


def refreshes(segment: Segment, spec: SegmentSpec) -> list[int]:
    """The frames at which the segment's context is refreshed, in order; the last is its `start`.

    The first is a true frame; each later one is the reconstruction under the one before. A segment with a true context
    has one frame. They are a function of (episode, start), so that the order of encoding does not matter.
    """
    draws = np.random.default_rng((segment.episode, segment.start))
    frames = [segment.start]
    if draws.random() < spec.reencoded:
        for _ in range(draws.integers(1, spec.refreshes + 1)):
            frames.insert(0, max(0, frames[0] - int(draws.integers(1, spec.frames + 1))))
    return sorted(set(frames))


def _contexts(
    tokenizer: Codec[ContextT], videos: list[UInt8], chains: list[list[int]], device: torch.device | str
) -> Tensor:
    """The context images (B, 3, H, W) after the refreshes of `chains` in the videos (T, H, W, 3)."""

    def frames(rows: Sequence[int], link: int) -> Tensor:
        return frames_to_video(np.stack([videos[row][chains[row][link]] for row in rows]), device)

    pictures = frames(range(len(videos)), 0)
    for link in range(1, max(map(len, chains))):
        rows = [row for row, chain in enumerate(chains) if len(chain) > link]
        later = frames(rows, link)[:, None]
        context = tokenizer.encode_context(pictures[rows])
        pictures[rows] = tokenizer.decode(context, tokenizer.encode(context, later))[:, 0]
    return pictures


def _encode(
    tokenizer: Codec[ContextT],
    corpus: Corpus,
    segments: Sequence[Segment],
    spec: SegmentSpec,
    contexts: int,
    device: torch.device | str,
    batch: int,
) -> dict[str, Tensor]:
    """The tensors of one file of the cache; an episode is read once, and stays uint8 until it is encoded."""
    context, dynamics, actions, masks, proprioception = [], [], [], [], []
    read, video = -1, np.empty(0, np.uint8)
    for first in range(0, len(segments), batch):
        part, clips, videos = segments[first : first + batch], [], []
        for segment in part:
            if segment.episode != read:
                read, video = segment.episode, corpus.frames(segment.episode)
                every, mask = corpus.actions(read), torch.from_numpy(corpus.action_mask(read))
                measured = torch.from_numpy(corpus.proprioception(read))
            videos.append(video)
            clips.append(video[segment.start + 1 : segment.start + segment.frames + 1])
            actions.append(leading_actions(every, segment))
            masks.append(mask)
            true_context = refreshes(segment, spec) == [segment.start]
            proprioception.append(measured[segment.start] if true_context else torch.full_like(measured[0], torch.nan))
        with torch.inference_mode():
            chains = [refreshes(segment, spec) for segment in part]
            encoded = tokenizer.encode_context(_contexts(tokenizer, videos, chains, device))
            codes, prompt = tokenizer.encode(encoded, frames_to_video(np.stack(clips), device)), encoded.tokens
            if contexts == 2:
                true = np.stack([video[chain[0]] for video, chain in zip(videos, chains, strict=True)])
                first_prompt = tokenizer.encode_context(frames_to_video(true, device)).tokens
                prompt = join_contexts(first_prompt, prompt, codes.shape[2])
            context.append(prompt.to("cpu", torch.int32))
            dynamics.append(codes.to("cpu", torch.int32))
    return {
        "context": torch.cat(context),
        "dynamics": torch.cat(dynamics),
        "actions": torch.stack(actions),
        "action_mask": torch.stack(masks),
        "proprioception": torch.stack(proprioception),
        "episode": torch.tensor([segment.episode for segment in segments]),
        "start": torch.tensor([segment.start for segment in segments]),
    }
