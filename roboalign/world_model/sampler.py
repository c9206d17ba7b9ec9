"""Autoregressive rollouts of the world model: static key-value cache, shared prompts, batch-invariant sampling.

    sampler = Sampler(model, temperature=1.0)
    state = sampler.start(context_tokens, action_mask, seeds, max_frames=30)
    for action in actions.unbind(1):
        tokens = sampler.step(state, action)            # (B, Nd), one more frame

*Batch invariance.* The tokens of a row depend on its own prompt, actions and seed alone. The noise is a function of
(seed, absolute frame, place, code). A matrix library sums in another order for another number of rows, so each
product is cut into blocks of a fixed number of rows (`block`), the last one filled up; prompts are read one by one.

*Windows.* `State.drop` forgets the oldest frames and moves the later ones up, directly behind the context, which stays
as the attention sink (StreamingLLM). Cached keys were rotated by their old positions; rotations add, so turning a key
back by the distance it moves gives the key of its new position. Values carry no position. What the kept keys and values
know of the dropped frames stays in them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.world_model.layout import Layout
from roboalign.world_model.model import Layer, WorldModel, rotate
from roboalign.world_model.noise import gumbel, keys_of


class State:
    """A batch of rollouts in progress. All rows have the same number of frames."""

    def __init__(
        self,
        layout: Layout,
        keys: Tensor,
        values: Tensor,
        tokens: Tensor,
        mask: Tensor,
        seeds: Tensor,
        first_frame: int,
    ) -> None:
        self.layout = layout
        self.keys, self.values = keys, values
        """The cache, (layers, B, key-value heads, capacity, head width) each."""
        self.mask, self.seeds = mask, seeds
        self.frame = first_frame
        """Absolute number of the next frame."""
        self.frames = 0
        """Frames made since the start, dropped ones included."""
        self.dropped = 0
        """Frames dropped from the cache."""
        self.cached = layout.context
        """Tokens in the cache. Once there is a frame, its last token waits in `waiting`, to be read with the next."""
        self.waiting: Tensor | None = None
        """The input vectors (B, 1, hidden) of the last frame's last token."""
        self.moved = torch.zeros(mask.shape, device=mask.device)
        """The sum (B, A) of the actions since the context."""
        self.tokens = tokens
        """The last frame's tokens (B, Nd); before the first frame, those that the prompt gives for the context."""
        self.entropy = torch.zeros(seeds.shape, device=seeds.device)
        """Mean entropy in nats, (B,), of the model's distributions of the last drawn frame's tokens, at temperature 1
        and before top-k and top-p; 0 before the first one."""

    @property
    def rows(self) -> int:
        """Rollouts in the batch."""
        return len(self.seeds)

    @property
    def cached_frames(self) -> int:
        """Frames that the next one can attend to."""
        return self.frames - self.dropped

    @property
    def capacity(self) -> int:
        """Most frames that the cache holds."""
        return self.layout.frames(self.keys.shape[3])

    @property
    def sequence_length(self) -> int:
        """Tokens of the sequence so far, without dropped frames."""
        return self.layout.length(self.cached_frames)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the allocated cache."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def select(self, rows: Tensor, seeds: Tensor | None = None) -> "State":
        """A new state of the rollouts `rows`, an index that may repeat; they share no memory with this one.

        Rows keep their seeds unless `seeds` names new ones: copies that are to differ need seeds of their own.
        """
        with torch.inference_mode():
            chosen = State(
                self.layout,
                self.keys[:, rows],
                self.values[:, rows],
                self.tokens[rows],
                self.mask[rows],
                self.seeds[rows] if seeds is None else seeds,
                self.frame,
            )
            chosen.frames, chosen.dropped, chosen.cached = self.frames, self.dropped, self.cached
            chosen.moved, chosen.entropy = self.moved[rows], self.entropy[rows]
            chosen.waiting = None if self.waiting is None else self.waiting[rows]
        if len(chosen.seeds) != chosen.keys.shape[1]:
            raise ValueError(f"{chosen.keys.shape[1]} rollouts need as many seeds, got {len(chosen.seeds)}")
        return chosen

    def fork(self, copies: int, seeds: Tensor) -> "State":
        """Each rollout `copies` times in a row, each copy with its own of the `seeds` (B * copies,)."""
        rows = torch.arange(self.rows, device=self.seeds.device).repeat_interleave(copies)
        return self.select(rows, seeds)

    def drop(self, frames: int, cosines: Tensor, sines: Tensor) -> None:
        """Forget the oldest `frames` frames (see `Sampler.drop`, which has the model's angles)."""
        if not 0 <= frames < max(self.cached_frames, 1):
            raise ValueError(f"cannot drop {frames} of {self.cached_frames} cached frames: the last one must stay")
        if frames == 0:
            return
        start, distance = self.layout.context, frames * self.layout.frame
        old, new = slice(start + distance, self.cached), slice(start, self.cached - distance)
        # The angles of position p turn by p; with the sines negated they turn back.
        self.keys[..., new, :] = rotate(self.keys[..., old, :], cosines[distance], -sines[distance])
        self.values[..., new, :] = self.values[..., old, :].clone()
        self.cached -= distance
        self.dropped += frames


class Sampler:
    """Rolls a world model out. Follows the model's weights: after training steps, `start` sees the new ones."""

    def __init__(
        self, model: WorldModel, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, block: int = 16
    ) -> None:
        """`temperature` 0 is greedy; `top_k` 0 and `top_p` 1 keep all codes.

        `block` rows go through a matrix product at a time; 0 takes all at once, which gives up batch invariance.
        Raises ValueError on values out of range.
        """
        if temperature < 0 or top_k < 0 or not 0 < top_p <= 1 or block < 0:
            raise ValueError("temperature, top_k and block must be at least 0, and top_p above 0 and at most 1")
        self.model, self.temperature, self.top_k, self.top_p, self.block = model, temperature, top_k, top_p, block
        self._packed: dict[str, Tensor] = {}
        self._versions: list[tuple[int, int]] = []
        self._refresh()

    def start(
        self,
        context_tokens: Tensor,
        action_mask: Tensor,
        seeds: Tensor,
        max_frames: int,
        *,
        groups: int = 1,
        first_frame: int = 0,
        moved: Tensor | None = None,
    ) -> State:
        """Read the prompts and return the state before the first frame.

        `context_tokens` (P, Nc + Nd) are P prompts (layout.py), `action_mask` (P, A) their action dimensions. With
        `groups` G, each prompt is read once and rolled out G times: the state has P * G rows, row p * G + g for rollout
        g of prompt p, and `seeds` is (P * G,). `max_frames` is what the cache has room for. `first_frame` is the
        absolute number of the next frame, by which the noise is drawn: a rollout that continues under a new context
        passes how many frames it already has. `moved` (P * G, A) is the sum of the actions since the context that come
        before the next frame's; none by default. Raises ValueError where shapes do not fit or the position limit is
        passed.
        """
        model, layout, spec = self.model, self.model.layout, self.model.spec
        prompts = len(context_tokens)
        if context_tokens.shape != (prompts, layout.prompt) or len(action_mask) != prompts:
            raise ValueError(
                f"prompts are {tuple(context_tokens.shape)} with masks {tuple(action_mask.shape)}, "
                f"the model takes (P, {layout.prompt}) and (P, {model.shape.action_width})"
            )
        if len(seeds) != prompts * groups:
            raise ValueError(f"{prompts} prompts in groups of {groups} need {prompts * groups} seeds, got {len(seeds)}")
        capacity = layout.length(max_frames)
        if capacity > spec.positions:
            raise ValueError(
                f"{max_frames} frames are {capacity} tokens, but world_model.positions is {spec.positions}: "
                "raise it, or roll out in windows"
            )
        with torch.inference_mode():
            self._refresh()
            sizes = (spec.layers, prompts, spec.kv_heads, capacity, spec.head_width)
            keys = torch.zeros(sizes, device=context_tokens.device)
            values = torch.zeros_like(keys)
            for row in range(prompts):
                codes = context_tokens[row : row + 1, : layout.context]
                x = self._packed["context"][codes] + model.context_places
                self._forward(x, keys[:, row : row + 1], values[:, row : row + 1], 0)
            still = context_tokens[:, layout.context :]
            state = State(layout, keys, values, still, action_mask, seeds, first_frame)
            if groups > 1:
                rows = torch.arange(prompts, device=seeds.device).repeat_interleave(groups)
                state.seeds = seeds[::groups]
                state = state.select(rows, seeds)
            if moved is not None:
                state.moved = moved
        return state

    def step(self, state: State, action: Tensor) -> Tensor:
        """Roll out one frame under `action` (B, A): its dynamics tokens (B, Nd). Changes `state`.

        Raises ValueError where the cache is full.
        """
        model, layout = self.model, self.model.layout
        if state.cached_frames == state.capacity:
            raise ValueError(
                f"the cache holds {state.capacity} frames and is full; drop frames, or start with more max_frames"
            )
        with torch.inference_mode():
            slots, everywhere = model.actions(action[:, None], state.mask, state.moved)
            state.moved = state.moved + action
            added = model.frame_places.expand(state.rows, -1, -1).clone()
            added[:, : layout.actions] += slots[:, 0]
            if everywhere is not None:
                added[:, layout.actions :] += everywhere[:, 0]
            if "previous" in self._packed:
                added[:, layout.predicting] += self._packed["previous"][state.tokens]
            keys = keys_of(state.seeds, state.frame, layout.dynamics)
            x = added[:, : layout.actions]
            if state.waiting is not None:
                x = torch.cat([state.waiting, x], 1)
            tokens = torch.empty(state.rows, layout.dynamics, dtype=torch.long, device=action.device)
            unsure = []
            for place in range(layout.dynamics):
                logits = self._logits(self._forward(x, state.keys, state.values, state.cached))
                state.cached += x.shape[1]
                unsure.append(entropy(logits))
                chosen = self._choose(logits, keys[:, place])
                tokens[:, place] = chosen
                x = (self._packed["dynamics"][chosen] + added[:, layout.actions + place])[:, None]
            state.waiting, state.tokens = x, tokens
            state.entropy = torch.stack(unsure).mean(0)
        state.frame += 1
        state.frames += 1
        return tokens

    def feed(self, state: State, actions: Tensor, tokens: Tensor) -> None:
        """Append known frames `tokens` (B, F, Nd), led to by `actions` (B, F, A), as if `step` had drawn them.

        Raises ValueError where the cache has no room for them.
        """
        model, layout, count = self.model, self.model.layout, tokens.shape[1]
        if state.cached_frames + count > state.capacity:
            raise ValueError(
                f"the cache holds {state.capacity} frames and has no room for {count} more; drop frames, or start with "
                "more max_frames"
            )
        with torch.inference_mode():
            slots, everywhere = model.actions(actions, state.mask, state.moved)
            state.moved = state.moved + actions.sum(1)
            frames = torch.cat([slots, self._packed["dynamics"][tokens]], 2) + model.frame_places
            if everywhere is not None:
                frames[:, :, layout.actions :] += everywhere
            if "previous" in self._packed:
                past = torch.cat([state.tokens[:, None], tokens[:, :-1]], 1)
                frames[:, :, layout.predicting] += self._packed["previous"][past]
            x = frames.flatten(1, 2)
            if state.waiting is not None:
                x = torch.cat([state.waiting, x], 1)
            self._forward(x[:, :-1], state.keys, state.values, state.cached)
            state.cached += x.shape[1] - 1
            state.waiting, state.tokens = x[:, -1:], tokens[:, -1]
        state.frame += count
        state.frames += count

    def drop(self, state: State, frames: int = 1) -> None:
        """Forget the oldest `frames` cached frames of `state` and move the later ones up to the context.

        Raises ValueError where not even the last frame would stay.
        """
        with torch.inference_mode():
            state.drop(frames, self.model.cosines, self.model.sines)

    def _refresh(self) -> None:
        """Take up the model's weights if they have changed: transposed for the CPU, whose products then run faster."""
        versions = [(parameter.data_ptr(), parameter._version) for parameter in self.model.parameters()]
        if versions == self._versions:
            return
        self._versions = versions
        packed = {"context": self.model.context.table(), "dynamics": self.model.dynamics.table()}
        if self.model.previous is not None:
            packed["previous"] = self.model.previous.table()
        matrices = {"head": self.model.output_matrix()}
        for number, layer in enumerate(self.model.layers):
            assert isinstance(layer, Layer)
            matrices |= {f"{number}.qkv": layer.qkv.weight, f"{number}.out": layer.out.weight}
            matrices |= {f"{number}.up": layer.up.weight, f"{number}.down": layer.down.weight}
        for name, matrix in matrices.items():
            packed[name] = matrix.t().contiguous() if matrix.device.type == "cpu" else matrix.t()
        self._packed = {name: tensor.detach() for name, tensor in packed.items()}

    def _product(self, x: Tensor, name: str, whole: bool) -> Tensor:
        """The product of rows (N, in) and a packed matrix (in, out), in blocks of `block` rows unless `whole`.

        N must be a multiple of the block.
        """
        matrix = self._packed[name]
        if whole or len(x) <= self.block:
            return x @ matrix
        out = x.new_empty(len(x), matrix.shape[1])
        for start in range(0, len(x), self.block):
            torch.mm(x[start : start + self.block], matrix, out=out[start : start + self.block])
        return out

    def _forward(self, x: Tensor, keys: Tensor, values: Tensor, cached: int) -> Tensor:
        """Read (B, t, hidden) behind `cached` tokens, write their keys and values, return the last ones (B, hidden)."""
        spec, (batch, count, hidden) = self.model.spec, x.shape
        heads, kv_heads, width = spec.heads, spec.kv_heads, spec.head_width
        rows, end = batch * count, cached + count
        whole = self.block == 0 or (cached == 0 and batch == 1)  # a prompt's shape is always the same
        extra = 0 if whole else -rows % self.block
        x = F.pad(x.reshape(rows, hidden), (0, 0, 0, extra)) if extra else x.reshape(rows, hidden)
        cosines, sines = self.model.cosines[cached:end, None], self.model.sines[cached:end, None]
        mask = None
        if count > 1 and cached:
            at = torch.arange(end, device=x.device)
            mask = at <= at[cached:, None]
        for number, layer in enumerate(self.model.layers):
            assert isinstance(layer, Layer)
            normed = F.rms_norm(x, (hidden,), layer.attention_norm, layer.epsilon)
            qkv = self._product(normed, f"{number}.qkv", whole)[:rows].view(batch, count, -1, width)
            both = rotate(qkv[:, :, : heads + kv_heads], cosines, sines).transpose(1, 2)
            key, value = keys[number], values[number]
            key[:, :, cached:end] = both[:, heads:]
            value[:, :, cached:end] = qkv[:, :, heads + kv_heads :].transpose(1, 2)
            mixed = F.scaled_dot_product_attention(
                both[:, :heads],
                key[:, :, :end],
                value[:, :, :end],
                attn_mask=mask,
                is_causal=count > 1 and cached == 0,
                enable_gqa=kv_heads != heads,
            )
            mixed = mixed.transpose(1, 2).reshape(rows, hidden)
            x = x + self._product(F.pad(mixed, (0, 0, 0, extra)) if extra else mixed, f"{number}.out", whole)
            normed = F.rms_norm(x, (hidden,), layer.ffn_norm, layer.epsilon)
            gate, up = self._product(normed, f"{number}.up", whole).chunk(2, -1)
            x = x + self._product(F.silu(gate) * up, f"{number}.down", whole)
        return x[:rows].view(batch, count, hidden)[:, -1]

    def _logits(self, x: Tensor) -> Tensor:
        """The logits (B, codes) of the last layer's output (B, hidden)."""
        rows, whole = len(x), self.block == 0
        extra = 0 if whole else -rows % self.block
        normed = F.rms_norm(x, x.shape[1:], self.model.norm, self.model.spec.norm_epsilon)
        return self._product(F.pad(normed, (0, 0, 0, extra)) if extra else normed, "head", whole)[:rows]

    def _choose(self, logits: Tensor, keys: Tensor) -> Tensor:
        """One code for each row of `logits` (B, codes), by the noise of its key (B,)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        kept = restrict(logits / self.temperature, self.top_k, self.top_p)
        return (kept + gumbel(keys, logits.shape[-1])).argmax(-1)


def entropy(logits: Tensor) -> Tensor:
    """The entropy in nats, (...), of the distributions with these `logits` (..., codes)."""
    logarithms = logits.log_softmax(-1)
    return -(logarithms.exp() * logarithms).sum(-1)


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


def generate(
    model: WorldModel,
    context_tokens: Tensor,
    actions: Tensor,
    action_mask: Tensor,
    seeds: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    window: int = 0,
) -> Tensor:
    """Roll out `actions` (B, F, A) from the prompts `context_tokens` (B, Nc + Nd): dynamics tokens (B, F, Nd).

    With a `window`, each frame sees the context and the `window` - 1 frames before it; 0 sees all.
    """
    sampler = Sampler(model, temperature=temperature, top_k=top_k, top_p=top_p)
    frames = actions.shape[1]
    state = sampler.start(context_tokens, action_mask, seeds, min(window, frames) if window else frames)
    tokens = []
    for action in actions.unbind(1):
        if state.cached_frames == state.capacity:
            sampler.drop(state)
        tokens.append(sampler.step(state, action))
    return torch.stack(tokens, 1)
