"""The drawing of a frame as two graphs of fixed shapes, which torch.compile can capture as CUDA graphs.

One graph reads the tokens before a frame's first code (the last token of what came before, the action slots) and draws
that code; the other reads one code and draws the next. Both take nothing but tensors: the position in the cache is one,
attention reads the whole cache and is masked by it, and whatever a graph leaves for the next one it writes to buffers.
So nothing is compiled again at other positions, and a token costs one call.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from roboalign.world_model.cached_layer import Span
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.decoder_weights import DecoderWeights
from roboalign.world_model.kv_cache import LayerCache

ChooseCodes = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, codes) and keys of the noise (B,) to codes (B,)."""
DrawnFrame = tuple[Tensor, Tensor, Tensor]
"""A frame's codes (B, Nd), their logits (B, Nd, codes), and the input vectors (B, 1, hidden) of the last code."""


class FrameBuffers(NamedTuple):
    """The inputs and outputs of the graphs of B rollouts."""

    head: Tensor
    """Input vectors (B, 1 + action slots, hidden) before the first code."""
    token: Tensor
    """Input vector (B, 1, hidden) of the last code."""
    added: Tensor
    """Vectors added to the embeddings of the frame's codes, (B, Nd, hidden)."""
    keys: Tensor
    """Keys of the noise, (B, Nd)."""
    tokens: Tensor
    """The frame's codes (B, Nd)."""
    logits: Tensor
    """Their logits (B, Nd, codes)."""
    position: Tensor
    """(1,), tokens in the sequences' own part of the cache."""
    place: Tensor
    """(1,), codes of the frame that are drawn."""

    @classmethod
    def of(cls, weights: DecoderWeights, rows: int, device: torch.device) -> "FrameBuffers":
        """Buffers for so many rollouts."""
        layout, hidden = weights.model.layout, weights.model.spec.hidden_size

        def numbers(*size: int) -> Tensor:
            return torch.zeros(size, device=device)

        def integers(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.long, device=device)

        return cls(
            head=numbers(rows, 1 + layout.actions, hidden),
            token=numbers(rows, 1, hidden),
            added=numbers(rows, layout.dynamics, hidden),
            keys=integers(rows, layout.dynamics),
            tokens=integers(rows, layout.dynamics),
            logits=numbers(rows, layout.dynamics, weights.model.shape.dynamics_codes),
            position=integers(1),
            place=integers(1),
        )


@dataclass
class _Memory:
    """A cache's tensors with their buffers, and the state that uses them."""

    owner: "weakref.ref[DecodeState]"
    parts: list[Tensor]
    buffers: FrameBuffers


class CompiledDecoding:
    """Draws frames by compiled graphs. Keeps the memory of ended rollouts for later ones of the same sizes."""

    def __init__(self, weights: DecoderWeights, choose: ChooseCodes, device: torch.device) -> None:
        self.weights, self.choose, self.device = weights, choose, device
        mode = "reduce-overhead" if device.type == "cuda" else None
        self._draw_first, self._draw_next = (
            torch.compile(draw, fullgraph=True, mode=mode) for draw in (draw_first_code, draw_next_code)
        )
        self._memories: list[_Memory] = []
        for tensor in weights.tensors():
            fix_address(tensor)

    def reuse_memory(self, sizes: list[tuple[int, ...]]) -> list[Tensor] | None:
        """The tensors of a cache of these sizes that no rollout uses any more; None if there is none."""
        free = [memory for memory in self._memories if memory.owner() is None]
        for memory in free:
            if [tuple(part.shape) for part in memory.parts] == sizes:
                return memory.parts
        # Graphs that were captured for other sizes are captured again when these return.
        self._memories = [memory for memory in self._memories if memory not in free]
        return None

    def adopt(self, state: DecodeState) -> FrameBuffers:
        """The buffers of a state, whose cache is kept for others when it ends."""
        parts = [state.cache.own, *([] if state.cache.shared is None else [state.cache.shared])]
        for memory in self._memories:
            if memory.parts[0] is parts[0]:
                memory.owner = weakref.ref(state)
                return memory.buffers
        buffers = FrameBuffers.of(self.weights, state.rows, self.device)
        for tensor in (*buffers, *parts):
            fix_address(tensor)
        self._memories.append(_Memory(weakref.ref(state), parts, buffers))
        return buffers

    def draw_frame(self, state: DecodeState, head: Tensor, added: Tensor, keys: Tensor) -> DrawnFrame:
        """Draw a frame of `state`, whose cache is written to.

        Args:
            state: The rollouts.
            head: Input vectors (B, 1 + action slots, hidden) before the first code.
            added: Vectors added to the embeddings of the codes, (B, Nd, hidden).
            keys: Keys of the noise, (B, Nd).
        """
        buffers = self.adopt(state)
        buffers.head.copy_(head)
        buffers.added.copy_(added)
        buffers.keys.copy_(keys)
        buffers.position.fill_(state.cached - state.cache.shared_tokens)
        buffers.place.zero_()
        layers = state.cache.layers()
        self._draw_first(self.weights, layers, buffers, self.choose)
        for _ in range(1, keys.shape[1]):
            self._draw_next(self.weights, layers, buffers, self.choose)
        return buffers.tokens.clone(), buffers.logits.clone(), buffers.token.clone()


def fix_address(tensor: Tensor) -> None:
    """Let CUDA graphs read and write this tensor where it lies instead of copying it at each call."""
    torch._dynamo.mark_static_address(tensor, guard=False)


def draw_first_code(
    weights: DecoderWeights, cache: list[LayerCache], buffers: FrameBuffers, choose: ChooseCodes
) -> None:
    """Read the tokens before a frame's first code, and draw it."""
    _draw_code(weights, cache, buffers, choose, buffers.head)


def draw_next_code(
    weights: DecoderWeights, cache: list[LayerCache], buffers: FrameBuffers, choose: ChooseCodes
) -> None:
    """Read the last code, and draw the next."""
    _draw_code(weights, cache, buffers, choose, buffers.token)


def _draw_code(
    weights: DecoderWeights, cache: list[LayerCache], buffers: FrameBuffers, choose: ChooseCodes, x: Tensor
) -> None:
    count, room, place = x.shape[1], cache[0].own.shape[3], buffers.place
    places = buffers.position + torch.arange(count, device=x.device)
    mask = torch.arange(room, device=x.device) <= places[:, None]
    shared = 0 if cache[0].shared is None else cache[0].shared.shape[3]
    span = Span(count, places, room, weights.angles(places + shared), mask, causal=False)
    logits = weights.logits(weights.read(x, cache, span, 0), 0)
    codes = choose(logits, buffers.keys.index_select(1, place)[:, 0])
    buffers.logits.index_copy_(1, place, logits[:, None])
    buffers.tokens.index_copy_(1, place, codes[:, None])
    buffers.token.copy_(weights.tables["dynamics"][codes][:, None] + buffers.added.index_select(1, place))
    buffers.position.add_(count)
    place.add_(1)
