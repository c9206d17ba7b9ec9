"""Autoregressive rollouts of the world model: static key-value cache, shared prompts, batch-invariant sampling.

    sampler = Sampler(model, temperature=1.0)
    state = sampler.start(context_tokens, action_mask, seeds, max_frames=30)
    for action in actions.unbind(1):
        tokens = sampler.step(state, action)            # (B, Nd), one more frame

*Batch invariance.* The tokens of a row depend on its own prompt, actions and seed alone. The noise is a function of
(seed, absolute frame, place, code). The result of a matrix product depends on the number of rows, so rows are
multiplied in blocks of a fixed size (`block`), the last one padded; prompts are read one at a time. `SamplerSpec` can
give this up for speed: all rows at once, prompts read together and stored once for all of their rollouts, compiled.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from roboalign.hardware.spec import SamplerSpec
from roboalign.world_model.cached_layer import Span
from roboalign.world_model.compiled_decoding import CompiledDecoding, DrawnFrame
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.decoder_weights import DecoderWeights
from roboalign.world_model.kv_cache import KeyValueCache, PromptGroups
from roboalign.world_model.model import WorldModel
from roboalign.world_model.noise import gumbel, noise_keys
from roboalign.world_model.prompts import complete_prompts, find_distinct_prompts

DEFAULT = SamplerSpec()
PREFILL_TOKENS = 8192
"""Tokens of the prompts that are read at once without batch invariance; bounds the memory."""


class Sampler:
    """Rolls a world model out. Follows the model's weights: after training steps, `start` sees the new ones."""

    def __init__(
        self,
        model: WorldModel,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        spec: SamplerSpec = DEFAULT,
    ) -> None:
        """`temperature` 0 is greedy; `top_k` 0 and `top_p` 1 keep all codes.

        Raises ValueError on values out of range.
        """
        if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
            raise ValueError("temperature and top_k must be at least 0, and top_p above 0 and at most 1")
        self.model, self.temperature, self.top_k, self.top_p, self.spec = model, temperature, top_k, top_p, spec
        self.block = spec.block if spec.batch_invariant else 0
        """Rows of a matrix product; 0 for all."""
        dtype = torch.bfloat16 if spec.precision == "bf16-true" else torch.float32
        self._weights = DecoderWeights(model, dtype, fixed=spec.compile)
        self._compiled: CompiledDecoding | None = None

    def start(
        self,
        context_tokens: Tensor,
        action_mask: Tensor,
        seeds: Tensor,
        max_frames: int,
        *,
        first_frame: int = 0,
        displacement: Tensor | None = None,
        initial_context: Tensor | None = None,
        proprioception: Tensor | None = None,
    ) -> DecodeState:
        """Read the prompts and return the state before the first frame.

        Args:
            context_tokens: Prompts (B, Nc + Nd) (layout.py). Equal ones are read once.
            action_mask: (B, A), their action dimensions.
            seeds: (B,).
            max_frames: Frames that the cache has room for.
            first_frame: Absolute number of the next frame, which the noise depends on. A rollout that continues under a
                new context passes the number of its frames so far.
            displacement: (B, A), the sum of the actions between the context and the next frame's; 0 by default.
            initial_context: (B, Nc + Nd), the prompts of the frames that the rollouts began with, for a model of two
                contexts; `context_tokens` by default.
            proprioception: (B, width), the robots' proprioception at the context frames, NaN where unknown; unknown by
                default, and ignored by a model that is not given any.

        Raises ValueError if shapes do not fit or the sequence is longer than the position limit.
        """
        layout, limit = self.model.layout, self.model.spec.max_position_embeddings
        rows, context_tokens = len(context_tokens), complete_prompts(layout, context_tokens, initial_context)
        for name, given in (("action masks", action_mask), ("seeds", seeds)):
            if len(given) != rows:
                raise ValueError(f"{rows} prompts need as many {name}, got {len(given)}")
        capacity = layout.length(max_frames)
        if capacity > limit:
            raise ValueError(
                f"{max_frames} frames are {capacity} tokens, above world_model.max_position_embeddings "
                f"({limit}); raise it, or roll out in windows"
            )
        with self._inference():
            self._weights.update()
            if self.spec.compile and self._compiled is None:
                self._compiled = CompiledDecoding(self._weights, self._choose_codes, context_tokens.device)
            cache, pending = self._read_prompts(context_tokens, proprioception, capacity)
            state = DecodeState(layout, cache, context_tokens[:, layout.context :], action_mask, seeds, first_frame)
            state.cached -= pending is not None
            state.pending_token = pending
            if displacement is not None:
                state.displacement = displacement
            if self._compiled is not None:
                self._compiled.adopt(state)
        return state

    def step(self, state: DecodeState, action: Tensor) -> Tensor:
        """Roll out one frame under `action` (B, A): its dynamics tokens (B, Nd). Changes `state`.

        Raises ValueError if the cache is full.
        """
        model, layout = self.model, self.model.layout
        if state.cached_frames == state.capacity:
            raise ValueError(
                f"the cache holds {state.capacity} frames and is full; drop frames, or start with more max_frames"
            )
        with self._inference():
            slots, everywhere = model.actions(action[:, None], state.mask, state.displacement)
            state.displacement = state.displacement + action
            added = model.frame_places.expand(state.rows, -1, -1).clone()
            added[:, : layout.actions] += slots[:, 0]
            if everywhere is not None:
                added[:, layout.actions :] += everywhere[:, 0]
            if "previous" in self._weights.tables:
                added[:, layout.predicting] += self._weights.tables["previous"][state.tokens]
            keys = noise_keys(state.seeds, state.frame, layout.dynamics)
            head, added = added[:, : layout.actions], added[:, layout.actions :]
            if state.pending_token is not None:
                head = torch.cat([state.pending_token, head], 1)
            draw = self._draw_frame if self._compiled is None else self._compiled.draw_frame
            tokens, state.logits, state.pending_token = draw(state, head, added, keys)
            state.cached += head.shape[1] + layout.dynamics - 1
            state.tokens = tokens
        state.frame += 1
        state.frames += 1
        return tokens

    def feed(self, state: DecodeState, actions: Tensor, tokens: Tensor) -> None:
        """Append known frames `tokens` (B, F, Nd), led to by `actions` (B, F, A), as if `step` had drawn them.

        Raises ValueError if the cache has no room for them.
        """
        model, layout, count = self.model, self.model.layout, tokens.shape[1]
        if state.cached_frames + count > state.capacity:
            raise ValueError(
                f"the cache holds {state.capacity} frames and has no room for {count} more; drop frames, or start with "
                "more max_frames"
            )
        with self._inference():
            slots, everywhere = model.actions(actions, state.mask, state.displacement)
            state.displacement = state.displacement + actions.sum(1)
            frames = torch.cat([slots, self._weights.tables["dynamics"][tokens]], 2) + model.frame_places
            if everywhere is not None:
                frames[:, :, layout.actions :] += everywhere
            if "previous" in self._weights.tables:
                past = torch.cat([state.tokens[:, None], tokens[:, :-1]], 1)
                frames[:, :, layout.predicting] += self._weights.tables["previous"][past]
            x = frames.flatten(1, 2)
            if state.pending_token is not None:
                x = torch.cat([state.pending_token, x], 1)
            self._read(x[:, :-1], state.cache, state.cached, self.block)
            state.cached += x.shape[1] - 1
            state.pending_token, state.tokens = x[:, -1:], tokens[:, -1]
        state.frame += count
        state.frames += count

    def drop(self, state: DecodeState, frames: int = 1) -> None:
        """Forget the oldest `frames` cached frames of `state` and move the later ones up to the context.

        Raises ValueError if not even the last frame would stay.
        """
        with self._inference():
            state.drop(frames, self.model.cosines, self.model.sines)

    def _inference(self) -> AbstractContextManager[None]:
        """Without gradients. Compiled graphs write to tensors that must not be those of inference mode."""
        return torch.no_grad() if self.spec.compile else torch.inference_mode()

    def _read_prompts(
        self, prompts: Tensor, proprioception: Tensor | None, capacity: int
    ) -> tuple[KeyValueCache, Tensor | None]:
        """A cache for `capacity` tokens with whole prompts (B, codes), of which equal ones are read once.

        Without batch invariance, prompts are read many at a time, and their last tokens are left to the first frame,
        whose tokens are as many as those of later frames then: their input vectors (B, 1, hidden) are returned too.
        """
        weights, model, layout, invariant = self._weights, self.model, self.model.layout, self.spec.batch_invariant
        if model.proprioception is None:
            proprioception = None
        rows, numbers = find_distinct_prompts(prompts, proprioception)
        codes = prompts[rows]
        x = weights.tables["context"][codes[:, : layout.context]]
        if layout.still:
            x = torch.cat([x, weights.tables["dynamics"][codes[:, layout.context :]]], 1)
        if model.proprioception is not None and proprioception is not None:
            x = x + model.proprioception(proprioception[rows])
        x = x + model.context_places
        count = layout.prefix if invariant else layout.prefix - 1
        groups = None if invariant else PromptGroups.of(numbers)
        cache = self._allocate(len(prompts), capacity, None if groups is None else (len(rows), count), numbers, groups)
        target = cache.own if cache.shared is None else cache.shared
        if len(rows) < target.shape[2]:
            target = cache.own.new_zeros(*cache.own.shape[:2], len(rows), cache.own.shape[3], count, cache.own.shape[5])
        # A prompt read alone always has the same shape: its products need no blocks.
        at_once = 1 if invariant else max(1, PREFILL_TOKENS // layout.prefix)
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            self._read(x[part, :count], KeyValueCache(target[:, :, part]), 0, 0)
        if cache.shared is None and target is not cache.own:
            cache.own[..., :count, :] = target[:, :, numbers]
        return cache, None if invariant else x[:, -1:][numbers]

    def _allocate(
        self, rows: int, capacity: int, shared: tuple[int, int] | None, numbers: Tensor, groups: PromptGroups | None
    ) -> KeyValueCache:
        """An empty cache of `rows` sequences of `capacity` tokens; `shared` are prompts and tokens of each to share."""
        spec, dtype, device = self.model.spec, self._weights.dtype, numbers.device

        def size(count: int, tokens: int) -> tuple[int, ...]:
            return (spec.layers, 2, count, spec.kv_heads, tokens, spec.head_width)

        sizes = [size(rows, capacity - (shared[1] if shared else 0)), *([size(*shared)] if shared else [])]
        parts = None if self._compiled is None else self._compiled.reuse_memory(sizes)
        own, *rest = parts or [torch.zeros(each, dtype=dtype, device=device) for each in sizes]
        return KeyValueCache(own, rest[0], numbers, groups) if rest else KeyValueCache(own)

    def _read(self, x: Tensor, cache: KeyValueCache, cached: int, block: int) -> Tensor:
        """Read (B, t, hidden) behind `cached` tokens, return the last layer's output (B, hidden) for the last one."""
        count, offset = x.shape[1], cache.shared_tokens
        start, end = cached - offset, cached - offset + count
        causal, mask = cached == 0, None
        if count > 1 and cached:
            at = torch.arange(end, device=x.device)
            mask = at <= at[start:, None]
        angles = self._weights.angles(slice(cached, cached + count))
        span = Span(count, slice(start, end), end, angles, mask, causal)
        return self._weights.read(x, cache.layers(), span, block)

    def _draw_frame(self, state: DecodeState, head: Tensor, added: Tensor, keys: Tensor) -> DrawnFrame:
        """Draw a frame; see `CompiledDecoding.draw_frame`."""
        weights, x, cached = self._weights, head, state.cached
        tokens, logits = torch.empty_like(keys), []
        for place in range(keys.shape[1]):
            logits.append(weights.logits(self._read(x, state.cache, cached, self.block), self.block))
            cached += x.shape[1]
            codes = self._choose_codes(logits[-1], keys[:, place])
            tokens[:, place] = codes
            x = (weights.tables["dynamics"][codes] + added[:, place])[:, None]
        return tokens, torch.stack(logits, 1), x

    def _choose_codes(self, logits: Tensor, keys: Tensor) -> Tensor:
        """One code for each row of `logits` (B, codes), by the noise of its key (B,)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        kept = restrict(logits / self.temperature, self.top_k, self.top_p)
        return (kept + gumbel(keys, logits.shape[-1])).argmax(-1)


def restrict(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Minus infinity for all but the `top_k` likeliest codes (0: all), then all but those that make up `top_p`.

    The likeliest code always stays. `logits` is (..., codes).
    """
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if top_p < 1:
        ordered, order = logits.sort(stable=True, dim=-1, descending=True)
        chances = ordered.softmax(-1)
        beyond = chances.cumsum(-1) - chances >= top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), float("-inf"))
    return logits
