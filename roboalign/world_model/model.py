"""The world model: a LLaMA transformer that predicts each frame's dynamics tokens from context, actions and past.

    model = WorldModel(spec, shape)
    logits = model(context_tokens, dynamics, actions, action_mask)      # teacher forced, (B, F, Nd, codes)

layout.py has the order of the tokens, sampler.py the autoregressive rollout with its cache.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from roboalign import checkpoint
from roboalign.types import Json
from roboalign.world_model.layout import SequenceLayout, TokenShape
from roboalign.world_model.prompts import complete_prompts
from roboalign.world_model.spec import SlotActionsSpec, TokenActionsSpec, WorldModelSpec


def rotary(width: int, positions: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of the rotary angles, each (positions, width), for `rotate`."""
    frequencies = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.cos()] * 2, 1).float(), torch.cat([-angles.sin(), angles.sin()], 1).float()


def rotate(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate (..., width) by the angles of `rotary`: channel i and i + width/2 are one plane (LLaMA)."""
    swapped = heads.roll(heads.shape[-1] // 2, -1)
    return torch.addcmul(heads * cosines, swapped, sines)


def discretise(actions: Tensor, bins: int) -> Tensor:
    """The uniform bin, from 0, of each action in [-1, 1]; values outside fall into the outermost bins."""
    return ((actions + 1) * (bins / 2)).floor().clamp(0, bins - 1).long()


DISPLACEMENT_SCALE = 0.25
"""Sums of actions run to a few units within a segment; this brings them to the size of single actions."""


class CodeEmbedding(nn.Module):
    """Embeds FSQ codes: by a table, or as the sum of one vector for each digit, so that like codes start alike."""

    indicator: Tensor

    def __init__(self, levels: tuple[int, ...], hidden: int, *, digits: bool) -> None:
        super().__init__()
        codes = torch.arange(math.prod(levels))
        columns = []
        for level in levels:
            columns.append(F.one_hot(codes % level, level))
            codes = codes // level
        indicator = torch.cat(columns, 1).float() if digits else torch.empty(0)
        self.register_buffer("indicator", indicator, persistent=False)
        self.weight = nn.Parameter(torch.empty(sum(levels) if digits else math.prod(levels), hidden))
        nn.init.normal_(self.weight, std=0.02 if not digits else 0.02 / math.sqrt(len(levels)))

    def table(self) -> Tensor:
        """The embedding of every code, (codes, hidden)."""
        return self.indicator @ self.weight if self.indicator.numel() else self.weight

    def forward(self, codes: Tensor) -> Tensor:
        """The embeddings (..., hidden) of the codes (...)."""
        return F.embedding(codes, self.table())


class ActionEmbedding(nn.Module):
    """Embeds the actions of a frame into its action slots. A masked dimension adds nothing."""

    def __init__(self, spec: SlotActionsSpec | TokenActionsSpec, width: int, hidden: int) -> None:
        super().__init__()
        self.spec, self.width = spec, width
        match spec:
            case SlotActionsSpec():
                rows = spec.bins * width
            case TokenActionsSpec():
                rows = spec.bins
                if width > spec.width:
                    raise ValueError(
                        f"actions have {width} dimensions, but world_model.actions.width is {spec.width}; raise it"
                    )
            case _:
                assert_never(spec)
        self.weight = nn.Parameter(torch.empty(rows, hidden))
        nn.init.normal_(self.weight, std=0.02)
        displacement = isinstance(spec, SlotActionsSpec) and spec.displacement
        self.linear = nn.Linear(2 * width, hidden, bias=False) if displacement else None

    def forward(self, actions: Tensor, mask: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor | None]:
        """The slots (B, F, slots, hidden), and what every slot of the frame gets added, (B, F, 1, hidden) or None.

        `actions` is (B, F, A) in [-1, 1], `mask` (B, A) is true for the dimensions that the episode has, and
        `displacement` (B, A) is the sum of the actions between the context and these.
        """
        bins = discretise(actions, self.spec.bins)
        present = mask[:, None, :, None].to(self.weight.dtype)
        match self.spec:
            case SlotActionsSpec():
                rows = bins + torch.arange(self.width, device=bins.device) * self.spec.bins
                summed = (F.embedding(rows, self.weight) * present).sum(2, keepdim=True)
                if self.linear is not None:
                    total = (actions.cumsum(1) + displacement[:, None]) * DISPLACEMENT_SCALE
                    numbers = torch.cat([actions, total], -1) * mask.repeat(1, 2)[:, None].to(actions.dtype)
                    # Not a matrix product: those sum in another order for another number of rows, and the sampler
                    # owes each row the same bits whatever else is in the batch.
                    summed = summed + (numbers[..., None] * self.linear.weight.t()).sum(2)[:, :, None]
                return summed, summed if self.spec.every_slot else None
            case TokenActionsSpec():
                slots = F.embedding(bins, self.weight) * present
                return F.pad(slots, (0, 0, 0, self.spec.width - self.width)), None
            case _:
                assert_never(self.spec)


class ProprioceptionEmbedding(nn.Module):
    """Embeds proprioception (B, P) in [-1, 1] as a vector (B, 1, hidden); dimensions that are NaN add nothing."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, hidden, bias=False)
        nn.init.normal_(self.linear.weight, std=0.02)

    def forward(self, proprioception: Tensor) -> Tensor:
        """The vector (B, 1, hidden) that is added to every context token."""
        known = ~proprioception.isnan()
        numbers = torch.cat([proprioception.nan_to_num(0.0), known.to(proprioception.dtype)], -1)
        # Not a matrix product, whose result for a row depends on the number of rows.
        return (numbers[..., None] * self.linear.weight.t()).sum(1, keepdim=True)


class Layer(nn.Module):
    """One transformer layer: attention, then SwiGLU, each on the normalised residual stream."""

    def __init__(self, spec: WorldModelSpec) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = spec.heads, spec.kv_heads, spec.head_width
        self.dropout, self.epsilon = spec.dropout, spec.norm_epsilon
        self.attention_norm = nn.Parameter(torch.ones(spec.hidden_size))
        self.qkv = nn.Linear(spec.hidden_size, (spec.heads + 2 * spec.kv_heads) * spec.head_width, bias=False)
        self.out = nn.Linear(spec.hidden_size, spec.hidden_size, bias=False)
        self.ffn_norm = nn.Parameter(torch.ones(spec.hidden_size))
        self.up = nn.Linear(spec.hidden_size, 2 * spec.intermediate_size, bias=False)
        self.down = nn.Linear(spec.intermediate_size, spec.hidden_size, bias=False)
        for linear in (self.qkv, self.up):
            nn.init.normal_(linear.weight, std=0.02)
        for linear in (self.out, self.down):  # these add to the residual stream once for each layer
            nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * spec.layers))

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """(B, L, hidden) to the same, causal; the angles are (L, head width)."""
        query, key, value = self._project(x, cosines, sines)
        grouped = self.kv_heads != self.heads
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        return self._add(x, mixed)

    def forward_shared(
        self, prefix: Tensor, frames: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward` of P sequences of prefix tokens, each followed by the frames of G sequences that share it.

        Args:
            prefix: (P, Lp, hidden).
            frames: (P * G, Lf, hidden); row p * G + g continues row p of the prefix.
            cosines: Of the angles, (Lp + Lf, head width).
            sines: Same shape.
            mask: (Lf, Lp + Lf), true for the tokens that a token of the frames attends to.

        Returns:
            Both, in the same shapes.
        """
        grouped, length = self.kv_heads != self.heads, prefix.shape[1]
        query, key, value = self._project(prefix, cosines[:length], sines[:length])
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        group_size = len(frames) // len(prefix)
        query, *own = self._project(frames, cosines[length:], sines[length:])
        key, value = (
            torch.cat([shared.repeat_interleave(group_size, 0), each], 2)
            for shared, each in zip((key, value), own, strict=True)
        )
        continued = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)
        return self._add(prefix, mixed), self._add(frames, continued)

    def _project(self, x: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries (B, heads, L, width) and keys, and values (B, kv_heads, L, width), of (B, L, hidden)."""
        batch, length, hidden = x.shape
        qkv = self.qkv(F.rms_norm(x, (hidden,), self.attention_norm, self.epsilon))
        qkv = qkv.view(batch, length, -1, self.head_width).transpose(1, 2)
        both, value = qkv[:, : self.heads + self.kv_heads], qkv[:, self.heads + self.kv_heads :]
        both = rotate(both, cosines.to(qkv.dtype), sines.to(qkv.dtype))
        return both[:, : self.heads], both[:, self.heads :], value

    def _add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add to (B, L, hidden) the attention's output, from its mixed values (B, heads, L, width), and SwiGLU's."""
        attended = self.out(mixed.transpose(1, 2).reshape(x.shape))
        x = x + F.dropout(attended, self.dropout, self.training)
        gate, up = self.up(F.rms_norm(x, x.shape[-1:], self.ffn_norm, self.epsilon)).chunk(2, -1)
        return x + F.dropout(self.down(F.silu(gate) * up), self.dropout, self.training)


class WorldModel(nn.Module):
    """p(dynamics tokens | context tokens, actions), one token after another."""

    cosines: Tensor
    sines: Tensor
    context_places: Tensor
    frame_places: Tensor
    activation_checkpointing = False
    """Whether the backward pass computes the activations of the layers again, instead of keeping them."""

    def __init__(self, spec: WorldModelSpec, shape: TokenShape) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.layout = SequenceLayout(
            spec.contexts * shape.context_tokens,
            spec.action_slots,
            shape.dynamics_tokens,
            spec.contexts,
            shape.dynamics_tokens if spec.still_tokens else 0,
        )
        digits = spec.embedding == "digits"
        self.context = CodeEmbedding(shape.context_levels, spec.hidden_size, digits=digits)
        self.dynamics = CodeEmbedding(shape.dynamics_levels, spec.hidden_size, digits=digits)
        self.previous = (
            CodeEmbedding(shape.dynamics_levels, spec.hidden_size, digits=digits) if spec.previous_codes else None
        )
        self.actions = ActionEmbedding(spec.actions, shape.action_width, spec.hidden_size)
        self.proprioception: ProprioceptionEmbedding | None = None
        # Rotary positions encode distances in the sequence; these encode the place in the frame.
        for name, count in (("context_places", self.layout.prefix), ("frame_places", self.layout.frame)):
            if spec.places:
                self.register_parameter(name, nn.Parameter(torch.randn(count, spec.hidden_size) * 0.02))
            else:
                self.register_buffer(name, torch.zeros(count, spec.hidden_size), persistent=False)
        self.layers = nn.ModuleList(Layer(spec) for _ in range(spec.layers))
        self.norm = nn.Parameter(torch.ones(spec.hidden_size))
        self.head = nn.Linear(spec.hidden_size, shape.dynamics_codes, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)
        # Codes with the same digit share a part of their logit, so that rare codes profit from frequent ones.
        self.head_digits = CodeEmbedding(shape.dynamics_levels, spec.hidden_size, digits=True) if digits else None
        # Drawn last, so that the other initial weights do not depend on it.
        if spec.proprioception is not None:
            self.proprioception = ProprioceptionEmbedding(shape.proprioception_width, spec.hidden_size)
        cosines, sines = rotary(spec.head_width, spec.max_position_embeddings, spec.rope_base)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def output_matrix(self) -> Tensor:
        """The matrix (codes, hidden) that turns the last layer's normalised output into logits."""
        return self.head.weight if self.head_digits is None else self.head.weight + self.head_digits.table()

    def embed(
        self,
        context_tokens: Tensor,
        dynamics: Tensor,
        actions: Tensor,
        action_mask: Tensor,
        proprioception: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The input vectors of the tokens before the first frame, (P, prefix, hidden), and of those of the frames,
        (B, F * frame, hidden), in the order of layout.py."""
        slots, everywhere = self.actions(actions, action_mask, torch.zeros_like(actions[:, 0]))
        tokens = self.dynamics(dynamics)
        frames = torch.cat([slots.to(tokens.dtype), tokens], 2) + self.frame_places
        if everywhere is not None:
            frames = frames + F.pad(everywhere.expand(-1, -1, self.layout.dynamics, -1), (0, 0, self.layout.actions, 0))
        if self.previous is not None:
            still = context_tokens[:, None, self.layout.context :]
            still = still.repeat_interleave(len(dynamics) // len(context_tokens), 0)
            past = self.previous(torch.cat([still, dynamics[:, :-1]], 1))
            frames = frames + F.pad(past, (0, 0, self.layout.actions - 1, 1))
        context = self.context(context_tokens[:, : self.layout.context])
        if self.layout.still:
            context = torch.cat([context, self.dynamics(context_tokens[:, self.layout.context :])], 1)
        if self.proprioception is not None and proprioception is not None:
            context = context + self.proprioception(proprioception).to(context.dtype)
        return context + self.context_places, frames.flatten(1, 2)

    def forward(
        self,
        context_tokens: Tensor,
        dynamics: Tensor,
        actions: Tensor,
        action_mask: Tensor,
        proprioception: Tensor | None = None,
    ) -> Tensor:
        """Teacher-forced logits (B, F, Nd, codes): those of each dynamics token given all before it.

        Args:
            context_tokens: Prompts (P, Nc + Nd), see layout.py, or whole ones of two contexts. If P is below B, each is
                that of B / P sequences in succession, which share its computation.
            dynamics: Codes (B, F, Nd).
            actions: (B, F, A) in [-1, 1]; action f leads to frame f.
            action_mask: (B, A), true for the dimensions that the episode has.
            proprioception: One row for each prompt, in [-1, 1], at the context frames, NaN where unknown; None if all
                is unknown.

        Raises ValueError on prompts of another width, on sequences that cannot be divided among the prompts, and on a
        sequence beyond the position limit.
        """
        prompts = complete_prompts(self.layout, context_tokens)
        if len(dynamics) % len(prompts):
            raise ValueError(f"{len(dynamics)} sequences cannot be divided among {len(prompts)} prompts")
        prefix, frames = self.embed(prompts, dynamics, actions, action_mask, proprioception)
        length = prefix.shape[1] + frames.shape[1]
        if length > self.spec.max_position_embeddings:
            raise ValueError(
                f"{dynamics.shape[1]} frames are {length} tokens, above world_model.max_position_embeddings "
                f"({self.spec.max_position_embeddings})"
            )
        angles = self.cosines[:length], self.sines[:length]
        if len(prompts) == len(dynamics):
            x = torch.cat([prefix, frames], 1)
            for layer in self.layers:
                x = self._apply_layer(layer, x, *angles)
            frames = x[:, self.layout.prefix :]
        else:
            mask = torch.ones(frames.shape[1], length, dtype=torch.bool, device=frames.device)
            mask = mask.tril(self.layout.prefix)
            for layer in self.layers:
                assert isinstance(layer, Layer)
                prefix, frames = self._apply_layer(layer.forward_shared, prefix, frames, *angles, mask)
        frames = frames.reshape(*dynamics.shape[:2], self.layout.frame, self.spec.hidden_size)
        frames = frames[:, :, self.layout.predicting]
        return F.linear(
            F.rms_norm(frames, (self.spec.hidden_size,), self.norm, self.spec.norm_epsilon), self.output_matrix()
        )

    def _apply_layer(self, layer: Callable[..., Any], *inputs: Tensor) -> Any:
        """The outputs of a layer; with activation checkpointing, only its inputs are kept for the backward pass."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            return recompute(layer, *inputs, use_reentrant=False)
        return layer(*inputs)


def seeded_world_model(spec: WorldModelSpec, shape: TokenShape, seed: int) -> WorldModel:
    """A new model whose initial weights are a function of `seed` alone; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WorldModel(spec, shape)


def log_probabilities(logits: Tensor, dynamics: Tensor) -> Tensor:
    """Log-probabilities (B, F, Nd) of the codes `dynamics` (B, F, Nd) under `logits` (B, F, Nd, codes)."""
    return -F.cross_entropy(logits.flatten(0, -2).float(), dynamics.flatten(), reduction="none").view(dynamics.shape)


def token_weights(dynamics: Tensor, change_weight: float) -> Tensor:
    """The weights (B, F, Nd) of the dynamics tokens in the loss: 1 + `change_weight` where a code differs from the
    previous frame's, else 1, as in the first frame, which has none."""
    changed = F.pad((dynamics[:, 1:] != dynamics[:, :-1]).float(), (0, 0, 1, 0))
    return 1 + change_weight * changed


def token_loss(
    logits: Tensor, dynamics: Tensor, change_weight: float = 0.0, total_weight: Tensor | None = None
) -> Tensor:
    """The mean negative log-probability of the dynamics tokens; nothing else in the sequence is predicted.

    With `change_weight`, it is weighted by `token_weights`; `total_weight` replaces their sum as the divisor.
    """
    losses = -log_probabilities(logits, dynamics)
    if change_weight == 0:
        return losses.mean()
    weights = token_weights(dynamics, change_weight)
    return (losses * weights).sum() / (weights.sum() if total_weight is None else total_weight)


def save_world_model(
    path: Path, model: WorldModel, provenance: str, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write the model with its spec, its token shape and the hash of what went into it.

    `weights` are the whole weights of a sharded model; by default, those of the model.
    """
    state = model.state_dict() if weights is None else weights
    spec, shape = model.spec.model_dump(mode="json"), model.shape.dump()
    checkpoint.save(path, state, spec=spec, provenance=provenance, shape=shape)


def load_world_model(path: Path, device: str = "cpu") -> WorldModel:
    """The model that `save_world_model` wrote, in evaluation mode.

    Raises CheckpointError if the file is damaged or holds another kind of model.
    """

    def build(metadata: dict[str, Json]) -> WorldModel:
        return WorldModel(checkpoint.read_spec(metadata, WorldModelSpec), TokenShape.load(metadata["shape"]))

    return checkpoint.load_model(path, build, device).eval()
