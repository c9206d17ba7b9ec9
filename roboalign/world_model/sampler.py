"""Autoregressive rollouts of the world model: static key-value cache, shared prompts, batch-invariant sampling.

    sampler = Sampler(model, temperature=1.0)
    state = sampler.start(context_tokens, action_mask, seeds, max_frames=30)
    for action in actions.unbind(1):
        tokens = sampler.step(state, action)            # (B, Nd), one more frame

*Batch invariance.* The tokens of a row depend on its own prompt, actions and seed alone. The noise is a function of
(seed, absolute frame, place, code). The result of a matrix product depends on the number of rows, so rows are
multiplied in blocks of a fixed size (`block`), the last one padded; prompts are read one at a time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.world_model.cached_layer import (
    LayerWeights,
    apply_cached_layer,
    blocked_matmul,
    pad_rows,
    transpose_for_matmul,
)
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.model import Layer, WorldModel
from roboalign.world_model.noise import gumbel, noise_keys
from roboalign.world_model.prompts import complete_prompts


class Sampler:
    """Rolls a world model out. Follows the model's weights: after training steps, `start` sees the new ones."""

    def __init__(
        self,
        model: WorldModel,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        block: int = 16,
        compiled: bool = False,
    ) -> None:
        """`temperature` 0 is greedy; `top_k` 0 and `top_p` 1 keep all codes.

        `block` rows go through a matrix product at a time; 0 takes all at once, which gives up batch invariance.
        `compiled` layers run fused (torch.compile), after about a minute of compiling.
        Raises ValueError on values out of range.
        """
        if temperature < 0 or top_k < 0 or not 0 < top_p <= 1 or block < 0:
            raise ValueError("temperature, top_k and block must be at least 0, and top_p above 0 and at most 1")
        self.model, self.temperature, self.top_k, self.top_p, self.block = model, temperature, top_k, top_p, block
        # One graph for all layers and lengths: weights and cache are inputs, sizes are symbols.
        self._apply_layer = torch.compile(apply_cached_layer, dynamic=True) if compiled else apply_cached_layer
        self._packed: dict[str, Tensor] = {}
        self._layers: list[LayerWeights] = []
        self._versions: list[tuple[int, int]] = []
        self._update_weights()

    def start(
        self,
        context_tokens: Tensor,
        action_mask: Tensor,
        seeds: Tensor,
        max_frames: int,
        *,
        groups: int = 1,
        first_frame: int = 0,
        displacement: Tensor | None = None,
        initial_context: Tensor | None = None,
        proprioception: Tensor | None = None,
    ) -> DecodeState:
        """Read the prompts and return the state before the first frame.

        Args:
            context_tokens: (P, Nc + Nd), P prompts (layout.py).
            action_mask: (P, A), their action dimensions.
            seeds: (P * G,).
            max_frames: Frames that the cache has room for.
            groups: G. Each prompt is read once and rolled out G times; row p * G + g is rollout g of prompt p.
            first_frame: Absolute number of the next frame, which the noise depends on. A rollout that continues under a
                new context passes the number of its frames so far.
            displacement: (P * G, A), the sum of the actions between the context and the next frame's; 0 by default.
            initial_context: (P, Nc + Nd), the prompts of the frames that the rollouts began with, for a model of two
                contexts; `context_tokens` by default.
            proprioception: (P, width), the robots' proprioception at the context frames, NaN where unknown; unknown by
                default, and ignored by a model that is not given any.

        Raises ValueError if shapes do not fit or the sequence is longer than the position limit.
        """
        model, layout, spec = self.model, self.model.layout, self.model.spec
        prompts, context_tokens = len(context_tokens), complete_prompts(layout, context_tokens, initial_context)
        if len(action_mask) != prompts:
            raise ValueError(f"{prompts} prompts need as many action masks, got {len(action_mask)}")
        if len(seeds) != prompts * groups:
            raise ValueError(f"{prompts} prompts in groups of {groups} need {prompts * groups} seeds, got {len(seeds)}")
        capacity = layout.length(max_frames)
        if capacity > spec.max_position_embeddings:
            raise ValueError(
                f"{max_frames} frames are {capacity} tokens, above world_model.max_position_embeddings "
                f"({spec.max_position_embeddings}); raise it, or roll out in windows"
            )
        with torch.inference_mode():
            self._update_weights()
            sizes = (spec.layers, prompts, spec.kv_heads, capacity, spec.head_width)
            keys = torch.zeros(sizes, device=context_tokens.device)
            values = torch.zeros_like(keys)
            for row in range(prompts):
                codes = context_tokens[row : row + 1]
                x = self._packed["context"][codes[:, : layout.context]]
                if layout.still:
                    x = torch.cat([x, self._packed["dynamics"][codes[:, layout.context :]]], 1)
                if model.proprioception is not None and proprioception is not None:
                    x = x + model.proprioception(proprioception[row : row + 1])
                x = x + model.context_places
                self._forward(x, keys[:, row : row + 1], values[:, row : row + 1], 0)
            still = context_tokens[:, layout.context :]
            state = DecodeState(layout, keys, values, still, action_mask, seeds, first_frame)
            if groups > 1:
                rows = torch.arange(prompts, device=seeds.device).repeat_interleave(groups)
                state.seeds = seeds[::groups]
                state = state.select(rows, seeds)
            if displacement is not None:
                state.displacement = displacement
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
        with torch.inference_mode():
            slots, everywhere = model.actions(action[:, None], state.mask, state.displacement)
            state.displacement = state.displacement + action
            added = model.frame_places.expand(state.rows, -1, -1).clone()
            added[:, : layout.actions] += slots[:, 0]
            if everywhere is not None:
                added[:, layout.actions :] += everywhere[:, 0]
            if "previous" in self._packed:
                added[:, layout.predicting] += self._packed["previous"][state.tokens]
            keys = noise_keys(state.seeds, state.frame, layout.dynamics)
            x = added[:, : layout.actions]
            if state.pending_token is not None:
                x = torch.cat([state.pending_token, x], 1)
            tokens = torch.empty(state.rows, layout.dynamics, dtype=torch.long, device=action.device)
            weighed: list[Tensor] = []
            for place in range(layout.dynamics):
                logits = self._logits(self._forward(x, state.keys, state.values, state.cached))
                state.cached += x.shape[1]
                weighed.append(logits)
                chosen = self._choose_codes(logits, keys[:, place])
                tokens[:, place] = chosen
                x = (self._packed["dynamics"][chosen] + added[:, layout.actions + place])[:, None]
            state.pending_token, state.tokens = x, tokens
            state.logits = torch.stack(weighed, 1)
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
        with torch.inference_mode():
            slots, everywhere = model.actions(actions, state.mask, state.displacement)
            state.displacement = state.displacement + actions.sum(1)
            frames = torch.cat([slots, self._packed["dynamics"][tokens]], 2) + model.frame_places
            if everywhere is not None:
                frames[:, :, layout.actions :] += everywhere
            if "previous" in self._packed:
                past = torch.cat([state.tokens[:, None], tokens[:, :-1]], 1)
                frames[:, :, layout.predicting] += self._packed["previous"][past]
            x = frames.flatten(1, 2)
            if state.pending_token is not None:
                x = torch.cat([state.pending_token, x], 1)
            self._forward(x[:, :-1], state.keys, state.values, state.cached)
            state.cached += x.shape[1] - 1
            state.pending_token, state.tokens = x[:, -1:], tokens[:, -1]
        state.frame += count
        state.frames += count

    def drop(self, state: DecodeState, frames: int = 1) -> None:
        """Forget the oldest `frames` cached frames of `state` and move the later ones up to the context.

        Raises ValueError if not even the last frame would stay.
        """
        with torch.inference_mode():
            state.drop(frames, self.model.cosines, self.model.sines)

    def _update_weights(self) -> None:
        """Take up the model's weights if they have changed."""
        versions = [(parameter.data_ptr(), parameter._version) for parameter in self.model.parameters()]
        if versions == self._versions:
            return
        self._versions = versions
        packed = {"context": self.model.context.table(), "dynamics": self.model.dynamics.table()}
        if self.model.previous is not None:
            packed["previous"] = self.model.previous.table()
        # Transposed on a CPU, whose products then run faster.
        packed["head"] = transpose_for_matmul(self.model.output_matrix())
        self._packed = {name: tensor.detach() for name, tensor in packed.items()}
        self._layers = []
        for layer in self.model.layers:
            assert isinstance(layer, Layer)
            matrices = (layer.qkv.weight, layer.out.weight, layer.up.weight, layer.down.weight)
            qkv, out, up, down = (transpose_for_matmul(matrix.detach()) for matrix in matrices)
            norms = layer.attention_norm.detach(), layer.ffn_norm.detach()
            self._layers.append(LayerWeights(qkv, out, up, down, *norms, layer.epsilon, layer.heads, layer.kv_heads))

    def _forward(self, x: Tensor, keys: Tensor, values: Tensor, cached: int) -> Tensor:
        """Read (B, t, hidden) behind `cached` tokens, write their keys and values, return the last ones (B, hidden)."""
        batch, count, hidden = x.shape
        rows, end = batch * count, cached + count
        # A prompt read alone always has the same shape: its products need no blocks.
        block = 0 if cached == 0 and batch == 1 else self.block
        x = pad_rows(x.reshape(rows, hidden), block)
        angles = self.model.cosines[cached:end, None], self.model.sines[cached:end, None]
        mask = None
        if count > 1 and cached:
            at = torch.arange(end, device=x.device)
            mask = at <= at[cached:, None]
        for weights, key, value in zip(self._layers, keys, values, strict=True):
            x = self._apply_layer(x, weights, key, value, (batch, cached, end), angles, mask, block)
        return x[:rows].view(batch, count, hidden)[:, -1]

    def _logits(self, x: Tensor) -> Tensor:
        """The logits (B, codes) of the last layer's output (B, hidden)."""
        normed = F.rms_norm(x, x.shape[1:], self.model.norm, self.model.spec.norm_epsilon)
        return blocked_matmul(pad_rows(normed, self.block), self._packed["head"], self.block)[: len(x)]

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
