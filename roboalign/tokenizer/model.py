"""The dual-branch tokenizer (iVideoGPT, arXiv 2405.15223; FSQ as in RLVR-World, arXiv 2505.13934).

A context frame is encoded into many tokens once; each later frame into few tokens, for the changes. Both halves
of the dynamics branch see the context: its features, level by level and by cross-attention, and its pixels, which the
decoder blends in where nothing changed. What the context contributes is computed once per context (`EncodedContext`).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import assert_never, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roboalign import checkpoint
from roboalign.tokenizer.architecture_spec import CompressiveSpec, DualBranchSpec
from roboalign.tokenizer.compressive import CompressiveTokenizer
from roboalign.tokenizer.fsq import FSQ
from roboalign.tokenizer.interface import EncodedContext, Tokenizer
from roboalign.tokenizer.layers import CrossAttention, Downsample, OutputHead, ResidualStage, Upsample
from roboalign.tokenizer.spec import COLOURS, TokenizerSpec
from roboalign.types import Json


class Quantizer(nn.Module):
    """Between features of the coarsest level and codes on a grid; what one token covers is folded into channels."""

    def __init__(self, width: int, cells: tuple[int, int], levels: Sequence[int], normalise: bool) -> None:
        super().__init__()
        self.cells, self.normalise = cells, normalise
        self.fsq = FSQ(levels)
        self.project_in = nn.Conv2d(width * prod(cells), len(levels), 1)
        self.project_out = nn.Conv2d(len(levels), width * prod(cells), 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C, r, c) to their quantized successors, same shape, and codes (N, tokens)."""
        rows, columns = self.cells
        n, width, height, breadth = x.shape
        x = x.reshape(n, width, height // rows, rows, breadth // columns, columns)
        latent = self.project_in(x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3))
        if self.normalise and latent[0, 0].numel() > 1:
            # Per-channel instance norm spreads the frames over the codes: without it most codes are never used.
            latent = F.instance_norm(latent)
        values, codes = self.fsq(latent.permute(0, 2, 3, 1))
        return self.features_of_values(values), codes.flatten(1)

    def features(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """The features (N, C, r, c) of codes (N, tokens)."""
        return self.features_of_values(self.fsq.values(codes).reshape(len(codes), *grid, -1))

    def features_of_values(self, values: Tensor) -> Tensor:
        """The features (N, C, r, c) of FSQ values (N, rows, columns, V) of the token grid."""
        x: Tensor = self.project_out(values.permute(0, 3, 1, 2))
        x = x.reshape(len(x), -1, *self.cells, *x.shape[2:])
        return x.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


class DualBranchTokenizer(Tokenizer):
    """The architecture of kind `dual_branch`."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__()
        self.spec = spec
        widths, patch, blocks = spec.widths, spec.patch, spec.blocks
        self.depths = spec.depth(spec.context_grid), spec.depth(spec.dynamics_grid)
        pixels = COLOURS * patch**2

        def stages(depth: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualStage(width, blocks) for width in widths[:depth])

        def downs(depth: int) -> nn.ModuleList:
            return nn.ModuleList(Downsample(a, b) for a, b in pairwise(widths[:depth]))

        def ups(depth: int) -> nn.ModuleList:
            return nn.ModuleList(Upsample(b, a) for a, b in pairwise(widths[:depth]))

        context, dynamics = self.depths
        self.context_stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.context_down, self.context_encoder = downs(context), stages(context)
        self.context_quantizer = Quantizer(
            widths[context - 1], spec.cells_per_token(spec.context_grid), spec.context_levels, normalise=False
        )
        self.context_up, self.context_decoder = ups(context), stages(context)
        self.context_head = OutputHead(widths[0], pixels)

        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.stem_context = nn.Conv2d(pixels, widths[0], 3, padding=1, bias=False)
        self.down, self.encoder = downs(dynamics), stages(dynamics)
        self.quantizer = Quantizer(
            widths[dynamics - 1], spec.cells_per_token(spec.dynamics_grid), spec.dynamics_levels, normalise=True
        )
        self.up, self.decoder = ups(dynamics), stages(dynamics)
        shared = range(min(self.depths))
        self.aligned = nn.ModuleList(nn.Conv2d(widths[level], widths[level], 1) for level in shared)

        def attentions() -> nn.ModuleDict:
            return nn.ModuleDict(
                {
                    str(level): CrossAttention(widths[level], prod(spec.resolution(level)), spec.attention.heads)
                    for level in shared
                    if spec.attends(level)
                }
            )

        self.encoder_attention, self.decoder_attention = attentions(), attentions()
        self.head = OutputHead(widths[0], patch**2 * (COLOURS + 1 + spec.warps) + 2 * spec.warps)
        if spec.warps:
            with torch.no_grad():  # the warped copies start as the context itself, each with a small random offset
                self.head.last.weight[-2 * spec.warps :].mul_(0.1)

    def _context(self, frames: Tensor) -> tuple[EncodedContext, Tensor]:
        patches = F.pixel_unshuffle(frames, self.spec.patch) - 0.5
        x, levels = self.context_stem(patches), []
        for level, stage in enumerate(self.context_encoder):
            x = stage(self.context_down[level - 1](x) if level else x)
            levels.append(x)
        quantized, tokens = self.context_quantizer(x)
        features = [self.stem_context(patches)]
        for name, attention in self.encoder_attention.items():
            features += cast(CrossAttention, attention).keys_and_values(levels[int(name)])
        features += [project(x) for project, x in zip(self.aligned, levels, strict=False)]
        for name, attention in self.decoder_attention.items():
            features += cast(CrossAttention, attention).keys_and_values(levels[int(name)])
        return EncodedContext(tokens, tuple(features), frames), quantized

    def decode_context(self, tokens: Tensor) -> Tensor:
        """The frames (B, 3, H, W) that context tokens alone describe; dynamics tokens behind them are not looked at."""
        codes = tokens[:, : self.spec.context_tokens]
        return self._decode_context(self.context_quantizer.features(codes, self.spec.context_grid))

    def _decode_context(self, x: Tensor) -> Tensor:
        for level in reversed(range(self.depths[0])):
            x = self.context_decoder[level](x)
            if level:
                x = self.context_up[level - 1](x)
        return torch.sigmoid(F.pixel_shuffle(self.context_head(x), self.spec.patch))

    def encode(self, context: EncodedContext, frames: Tensor) -> Tensor:
        """Dynamics tokens (B, F, dynamics_tokens) of frames (B, F, 3, H, W) under their contexts."""
        return self._encode(context, frames)[1]

    def _encode(self, context: EncodedContext, frames: Tensor) -> tuple[Tensor, Tensor]:
        batch, count = frames.shape[:2]
        features = iter(context.features)
        x = self.stem(F.pixel_unshuffle(frames.flatten(0, 1), self.spec.patch) - 0.5)
        x = _add(x, next(features), batch)
        for level, stage in enumerate(self.encoder):
            x = stage(self.down[level - 1](x) if level else x)
            if str(level) in self.encoder_attention:
                x = self.encoder_attention[str(level)](x, next(features), next(features))
        quantized, tokens = self.quantizer(x)
        return quantized, tokens.reshape(batch, count, -1)

    def decode(self, context: EncodedContext, tokens: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) in [0, 1] of dynamics tokens (B, F, dynamics_tokens) under their contexts."""
        x = self.quantizer.features(tokens.flatten(0, 1), self.spec.dynamics_grid)
        return self._decode(context, x)

    def code_values(self, tokens: Tensor) -> Tensor:
        """The points (..., V) of FSQ's grid, in [-1, 1], that dynamics codes (...) stand for."""
        return self.quantizer.fsq.values(tokens)

    def decode_values(self, context: EncodedContext, values: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) of values (B, F, dynamics_tokens, V) of dynamics tokens, with gradients to them."""
        flat = values.flatten(0, 1)
        grid = flat.reshape(len(flat), *self.spec.dynamics_grid, flat.shape[-1])
        return self._decode(context, self.quantizer.features_of_values(grid))

    def _decode(self, context: EncodedContext, x: Tensor) -> Tensor:
        batch = len(context.pixels)
        features = context.features[1 + 2 * len(self.encoder_attention) :]
        aligned, memory = features[: len(self.aligned)], iter(features[len(self.aligned) :])
        memories = {name: (next(memory), next(memory)) for name in self.decoder_attention}
        for level in reversed(range(self.depths[1])):
            if level < len(aligned):
                x = _add(x, aligned[level], batch)
            if str(level) in memories:
                x = self.decoder_attention[str(level)](x, *memories[str(level)])
            x = self.decoder[level](x)
            if level:
                x = self.up[level - 1](x)
        frames = self._blend(context.pixels, self.head(x))
        return frames.reshape(batch, -1, *frames.shape[1:])

    def _blend(self, pixels: Tensor, outputs: Tensor) -> Tensor:
        """Per pixel, a convex mix of a new colour, the context, and displaced copies of it."""
        warps, patch = self.spec.warps, self.spec.patch
        flows, outputs = outputs[:, outputs.shape[1] - 2 * warps :], outputs[:, : outputs.shape[1] - 2 * warps]
        outputs = F.pixel_shuffle(outputs, patch)
        new, masks = torch.sigmoid(outputs[:, :COLOURS]), outputs[:, COLOURS:]
        context = pixels.repeat_interleave(len(outputs) // len(pixels), 0)
        layers = [context, *self._warp(context, flows)]
        if not warps:
            mask = torch.sigmoid(masks)
            return new + mask * (context - new)
        shares = torch.cat([torch.zeros_like(masks[:, :1]), masks], 1).softmax(1)
        mixed = new * shares[:, :1]
        for number, layer in enumerate(layers, 1):
            mixed = mixed + layer * shares[:, number : number + 1]
        return mixed

    def _warp(self, context: Tensor, flows: Tensor) -> Iterator[Tensor]:
        """Displaced copies of the context, one for each pair of flow channels (N, 2·warps, r, c)."""
        if not self.spec.warps:
            return
        rows, columns = context.shape[-2:]
        flows = F.interpolate(flows, size=(rows, columns), mode="bilinear", align_corners=False)
        v = (torch.arange(rows, device=flows.device, dtype=flows.dtype) * 2 + 1) / rows - 1
        u = (torch.arange(columns, device=flows.device, dtype=flows.dtype) * 2 + 1) / columns - 1
        base = torch.stack([u.expand(rows, columns), v[:, None].expand(rows, columns)], -1)
        for flow in flows.chunk(self.spec.warps, 1):
            grid = base + flow.permute(0, 2, 3, 1)
            yield F.grid_sample(context, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def forward(self, context: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """For training: reconstructions of context frames (B, 3, H, W) and of later frames (B, F, 3, H, W)."""
        encoded, quantized = self._context(context)
        return self._decode_context(quantized), self._decode(encoded, self._encode(encoded, frames)[0])


def _add(x: Tensor, context: Tensor, batch: int) -> Tensor:
    """Features (B·F, C, r, c) plus their contexts' (B, C, r, c)."""
    return (x.reshape(batch, -1, *x.shape[1:]) + context.unsqueeze(1)).flatten(0, 1)


def build_tokenizer(spec: TokenizerSpec) -> Tokenizer:
    """A new tokenizer of the spec's architecture, with random weights."""
    match spec.architecture:
        case DualBranchSpec():
            return DualBranchTokenizer(spec)
        case CompressiveSpec():
            return CompressiveTokenizer(spec)
        case _:
            assert_never(spec.architecture)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a model file, frozen, ready to encode. Raises CheckpointError on a damaged file."""

    def build(metadata: dict[str, Json]) -> Tokenizer:
        return build_tokenizer(checkpoint.read_spec(metadata, TokenizerSpec))

    return checkpoint.load_model(path, build).requires_grad_(False).eval()
