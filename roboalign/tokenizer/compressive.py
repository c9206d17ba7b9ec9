"""RLVR-World's tokenizer (CompressiveVQModelFSQ of arXiv 2505.13934, after iVideoGPT, arXiv 2405.15223).

Two encoders and two decoders of residual convolutions, one pair for the context frame and one for later frames. The
dynamics branch attends to the context: its encoder to the features of the context's encoder, its decoder to those of
the decoder that turns the context's tokens back into a frame. Weights come from random numbers or, by `init`, from the
published files (rlvr_world.py).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roboalign.tokenizer.architecture_spec import ATTENTION_GROUPS, CompressiveSpec
from roboalign.tokenizer.fsq import BoundedFSQ
from roboalign.tokenizer.interface import EncodedContext, Tokenizer
from roboalign.tokenizer.spec import COLOURS, TokenizerSpec

EPSILON = 1e-6
"""Added to the variance of every normalisation but those of cross-attention, which have torch's default."""


class ResnetBlock(nn.Module):
    """A residual block: twice normalisation, SiLU and a 3x3 convolution; 1x1 where the width changes."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, EPSILON)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, EPSILON)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, r, c) to (N, outputs, r, c)."""
        change: Tensor = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        shortcut: Tensor = self.shortcut(x)
        return shortcut + change


class SelfAttention(nn.Module):
    """Attention of one head over all places of a feature map."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, EPSILON)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`, (N, C, r, c)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = (project(tokens)[:, None] for project in (self.query, self.key, self.value))
        change: Tensor = self.out(F.scaled_dot_product_attention(query, key, value)[:, 0])
        return x + change.transpose(1, 2).reshape(x.shape)


class ContextAttention(nn.Module):
    """Features of later frames attend to those of their context, all frames of one context at once."""

    def __init__(self, width: int, positions: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_norm, self.key_norm = (nn.GroupNorm(ATTENTION_GROUPS, width) for _ in range(2))
        self.query_position, self.key_position = (nn.Parameter(torch.zeros(positions, width)) for _ in range(2))
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        """(B, n, C) to (B, heads, n, C / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_and_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, positions, C / heads) of context features (B, C, r, c)."""
        x = self.key_norm(context).flatten(2).transpose(1, 2) + self.key_position
        return self._split(self.key(x)), self._split(self.value(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Features (B·F, C, r, c), context-major, to the same shape."""
        tokens = self.query_norm(x).flatten(2).transpose(1, 2) + self.query_position
        queries = self._split(self.query(tokens).reshape(len(keys), -1, tokens.shape[-1]))
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        change = F.dropout(self.out(attended.transpose(1, 2).flatten(2)), dropout)
        return F.silu(x + change.reshape(tokens.shape).transpose(1, 2).reshape(x.shape))


class ResolutionLevel(nn.Module):
    """The residual blocks of one resolution, then the convolution that halves (`stride` 2) or follows a doubling."""

    def __init__(self, inputs: int, outputs: int, blocks: int, groups: int, resample: nn.Module) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * blocks
        self.blocks = nn.Sequential(*(ResnetBlock(a, b, groups) for a, b in pairwise(widths)))
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, r, c) to (N, outputs, r', c')."""
        result: Tensor = self.resample(self.blocks(x))
        return result


class Halve(nn.Conv2d):
    """A 3x3 convolution of stride 2, padded below and to the right alone."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 2r, 2c) to (N, C, r, c)."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Double(nn.Conv2d):
    """Each place four times, then a 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, r, c) to (N, C, 2r, 2c)."""
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Sequential):
    """Residual block, self-attention if asked for, residual block."""

    def __init__(self, width: int, groups: int, attention: bool) -> None:
        between = SelfAttention(width, groups) if attention else nn.Identity()
        super().__init__(ResnetBlock(width, width, groups), between, ResnetBlock(width, width, groups))


class FrameEncoder(nn.Module):
    """Frames to latents; `levels` and what follows them run separately, for attention between the levels."""

    def __init__(self, spec: TokenizerSpec, network: CompressiveSpec, attention: bool) -> None:
        super().__init__()
        widths, groups = spec.widths, network.groups
        self.stem = nn.Conv2d(COLOURS, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            ResolutionLevel(a, b, spec.blocks, groups, Halve(b) if number < len(widths) - 1 else nn.Identity())
            for number, (a, b) in enumerate(pairwise((widths[0], *widths)))
        )
        self.middle = Middle(widths[-1], groups, attention)
        self.norm = nn.GroupNorm(groups, widths[-1], EPSILON)
        self.head = nn.Conv2d(widths[-1], network.latent_channels, 3, padding=1)

    def finish(self, x: Tensor) -> Tensor:
        """The latents (N, latent channels, r, c) of the last level's features."""
        latents: Tensor = self.head(F.silu(self.norm(self.middle(x))))
        return latents


class FrameDecoder(nn.Module):
    """Latents to frames; the middle, the `levels` and the head run separately, for attention between them."""

    def __init__(self, spec: TokenizerSpec, network: CompressiveSpec, attention: bool) -> None:
        super().__init__()
        widths, groups = spec.widths[::-1], network.groups
        self.stem = nn.Conv2d(network.latent_channels, widths[0], 3, padding=1)
        self.middle = Middle(widths[0], groups, attention)
        self.levels = nn.ModuleList(
            ResolutionLevel(a, b, spec.blocks + 1, groups, Double(b) if number < len(widths) - 1 else nn.Identity())
            for number, (a, b) in enumerate(pairwise((widths[0], *widths)))
        )
        self.norm = nn.GroupNorm(groups, widths[-1], EPSILON)
        self.head = nn.Conv2d(widths[-1], COLOURS, 3, padding=1)

    def begin(self, latents: Tensor) -> Tensor:
        """The features of the coarsest resolution."""
        x: Tensor = self.middle(self.stem(latents))
        return x

    def finish(self, x: Tensor) -> Tensor:
        """The frames (N, 3, H, W), not bounded, of the last level's features."""
        frames: Tensor = self.head(F.silu(self.norm(x)))
        return frames


class CompressiveTokenizer(Tokenizer):
    """The architecture of kind `compressive`."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__()
        self.spec = spec
        network = spec.architecture
        assert isinstance(network, CompressiveSpec)
        self.patch = spec.context_grid[0] // spec.dynamics_grid[0]
        latent, folded = network.latent_channels, network.latent_channels * self.patch**2
        attention = network.context_attention
        self.context_encoder, self.encoder = FrameEncoder(spec, network, attention), FrameEncoder(spec, network, True)
        self.context_decoder, self.decoder = FrameDecoder(spec, network, attention), FrameDecoder(spec, network, True)
        self.context_in = nn.Conv2d(latent, len(spec.context_levels), 1)
        self.context_fsq = BoundedFSQ(spec.context_levels)
        self.context_out = nn.Conv2d(len(spec.context_levels), latent, 1)
        self.dynamics_in = nn.Linear(folded, len(spec.dynamics_levels))
        self.dynamics_fsq = BoundedFSQ(spec.dynamics_levels)
        self.dynamics_out = nn.Linear(len(spec.dynamics_levels), folded)
        attentions = [
            ContextAttention(width, positions, spec.attention.heads, network.dropout)
            for width, positions in spec.cross_attentions
        ]
        count = len(spec.encoder_attention)
        self.encoder_attention = nn.ModuleList(attentions[:count])
        self.decoder_attention = nn.ModuleList(attentions[count:])

    def _context(self, frames: Tensor) -> tuple[EncodedContext, Tensor]:
        x = self.context_encoder.stem(frames)
        features: list[Tensor] = []
        attentions = iter(self.encoder_attention)
        for number, level in enumerate(self.context_encoder.levels):
            x = level(x)
            if number in self.spec.encoder_attention:
                features += _keys_and_values(next(attentions), x)
        latents = self.context_in(self.context_encoder.finish(x))
        values, codes = self.context_fsq(latents.permute(0, 2, 3, 1))
        # The decoder's features of the context, as far down as a later frame attends to them.
        x = self.context_decoder.begin(self.context_out(values.permute(0, 3, 1, 2)))
        attentions, last = iter(self.decoder_attention), self.spec.decoder_attention[-1]
        for number, level in enumerate([None, *self.context_decoder.levels][: last + 1]):
            x = x if level is None else level(x)
            if number in self.spec.decoder_attention:
                features += _keys_and_values(next(attentions), x)
        return EncodedContext(codes.flatten(1), tuple(features), frames), x

    def _finish_context(self, x: Tensor) -> Tensor:
        """The context frames of their decoder's features where `_context` stopped."""
        for level in self.context_decoder.levels[self.spec.decoder_attention[-1] :]:
            x = level(x)
        return self.context_decoder.finish(x)

    def decode_context(self, tokens: Tensor) -> Tensor:
        """The frames (B, 3, H, W) that context tokens alone describe; dynamics tokens behind them are not looked at."""
        codes = tokens[:, : self.spec.context_tokens]
        values = self.context_fsq.values(codes).reshape(len(codes), *self.spec.context_grid, -1)
        x = self.context_decoder.begin(self.context_out(values.permute(0, 3, 1, 2)))
        for level in self.context_decoder.levels:
            x = level(x)
        return self.context_decoder.finish(x).clamp(0, 1)

    def encode(self, context: EncodedContext, frames: Tensor) -> Tensor:
        """Dynamics tokens (B, F, dynamics_tokens) of frames (B, F, 3, H, W) under their contexts."""
        return self._encode(context, frames)[1]

    def _encode(self, context: EncodedContext, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B·F, Nd, V) and codes (B, F, Nd) of later frames."""
        memory, attentions = iter(context.features), iter(self.encoder_attention)
        x = self.encoder.stem(frames.flatten(0, 1))
        for number, level in enumerate(self.encoder.levels):
            x = level(x)
            if number in self.spec.encoder_attention:
                x = next(attentions)(x, next(memory), next(memory))
        latents, (rows, columns), side = self.encoder.finish(x), self.spec.dynamics_grid, self.patch
        folded = latents.reshape(len(latents), -1, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
        values, codes = self.dynamics_fsq(self.dynamics_in(folded.flatten(3).flatten(1, 2)))
        return values, codes.reshape(*frames.shape[:2], -1)

    def decode(self, context: EncodedContext, tokens: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) in [0, 1] of dynamics tokens (B, F, dynamics_tokens) under their contexts."""
        return self.decode_values(context, self.code_values(tokens))

    def code_values(self, tokens: Tensor) -> Tensor:
        """The points (..., V) of FSQ's grid, in [-1, 1], that dynamics codes (...) stand for."""
        return self.dynamics_fsq.values(tokens)

    def decode_values(self, context: EncodedContext, values: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) of values (B, F, dynamics_tokens, V) of dynamics tokens, with gradients to them."""
        return self._decode(context, values.flatten(0, 1)).clamp(0, 1)

    def _decode(self, context: EncodedContext, values: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W), not bounded, of the values (B·F, Nd, V) of their tokens."""
        (rows, columns), side = self.spec.dynamics_grid, self.patch
        folded = self.dynamics_out(values).reshape(len(values), rows, columns, side, side, -1)
        x = self.decoder.begin(folded.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3))
        memory, attentions = iter(context.features[2 * len(self.encoder_attention) :]), iter(self.decoder_attention)
        for number, level in enumerate([None, *self.decoder.levels]):
            x = x if level is None else level(x)
            if number in self.spec.decoder_attention:
                x = next(attentions)(x, next(memory), next(memory))
        frames = self.decoder.finish(x)
        return frames.reshape(len(context.pixels), -1, *frames.shape[1:])

    def forward(self, context: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """For training: reconstructions of context frames (B, 3, H, W) and of later frames (B, F, 3, H, W)."""
        encoded, x = self._context(context)
        return self._finish_context(x), self._decode(encoded, self._encode(encoded, frames)[0])


def _keys_and_values(attention: nn.Module, context: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(attention, ContextAttention)
    return attention.keys_and_values(context)
