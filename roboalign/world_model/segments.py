"""Training segments as tokens; every (context, later frame) pair is encoded once.

The token cache is a folder of safetensors files. Each is written atomically, so that a killed run encodes only the
missing ones, and memory-mapped when read, so that a large corpus need not fit into memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign import checkpoint
from roboalign.store import Corpus
from roboalign.types import Float32
from roboalign.video import frames_to_video
from roboalign.world_model.prompts import join_contexts
from roboalign.world_model.spec import SegmentSpec

SHARD = 2048
"""Segments of one file of the token cache."""


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


def encode_segments(
    tokenizer: Codec[ContextT],
    corpus: Corpus,
    spec: SegmentSpec,
    folder: Path,
    *,
    contexts: int = 1,
    device: str = "cpu",
    batch: int = 16,
    log: Callable[[str], None] = lambda text: None,
) -> Segments:
    """Encode the segments of `corpus` into the token cache at `folder`, except for files that exist already.

    With two `contexts`, the frame that a prompt's rollout began with is the first of its context's `refreshes`.
    The folder must be keyed by all that the tokens depend on (a stage's scratch folder is). `batch` segments are
    encoded at a time; `log` gets progress messages.
    """
    segments = list_segments(corpus, spec.frames, spec.stride)
    shards = []
    for number in range(-(-len(segments) // SHARD)):
        file = folder / f"segments-{number:05d}.safetensors"
        tokens = _read_shard(file, log)
        if tokens is None:
            part = segments[number * SHARD : (number + 1) * SHARD]
            checkpoint.save_scratch(file, _encode(tokenizer, corpus, part, spec, contexts, device, batch))
            tokens, _ = checkpoint.load_scratch(file)
            log(f"encoded {min((number + 1) * SHARD, len(segments))} of {len(segments)} segments")
        shards.append(tokens)
    return Segments(shards)


def _read_shard(file: Path, log: Callable[[str], None]) -> dict[str, Tensor] | None:
    """The tensors of a file of the token cache; None if it is absent, or damaged and therefore set aside."""
    if not file.exists():
        return None
    try:
        return checkpoint.load_scratch(file)[0]
    except checkpoint.CheckpointError as error:
        log(f"{error}; renamed to {checkpoint.set_aside(file).name}, its segments are encoded again")
        return None


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


def _contexts(tokenizer: Codec[ContextT], videos: list[Tensor], chains: list[list[int]]) -> Tensor:
    """The context images (B, 3, H, W) after the refreshes of `chains` in the videos (T, 3, H, W)."""
    pictures = torch.stack([video[chain[0]] for video, chain in zip(videos, chains, strict=True)])
    for link in range(1, max(map(len, chains))):
        rows = [row for row, chain in enumerate(chains) if len(chain) > link]
        later = torch.stack([videos[row][chains[row][link]] for row in rows])[:, None]
        context = tokenizer.encode_context(pictures[rows])
        pictures[rows] = tokenizer.decode(context, tokenizer.encode(context, later))[:, 0]
    return pictures


def _encode(
    tokenizer: Codec[ContextT],
    corpus: Corpus,
    segments: list[Segment],
    spec: SegmentSpec,
    contexts: int,
    device: str,
    batch: int,
) -> dict[str, Tensor]:
    """The tensors of one file of the cache; frames of an episode are read once."""
    context, dynamics, actions, masks, proprioception = [], [], [], [], []
    read, video = -1, torch.empty(0)
    for first in range(0, len(segments), batch):
        part, clips, videos = segments[first : first + batch], [], []
        for segment in part:
            if segment.episode != read:
                read, video = segment.episode, frames_to_video(corpus.frames(segment.episode), device)
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
            encoded = tokenizer.encode_context(_contexts(tokenizer, videos, chains))
            codes, prompt = tokenizer.encode(encoded, torch.stack(clips)), encoded.tokens
            if contexts == 2:
                true = torch.stack([video[chain[0]] for video, chain in zip(videos, chains, strict=True)])
                prompt = join_contexts(tokenizer.encode_context(true).tokens, prompt, codes.shape[2])
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
