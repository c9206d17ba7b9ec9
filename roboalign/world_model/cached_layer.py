"""A transformer layer over new tokens and a key-value cache.

The result of a matrix product depends on the number of rows. Multiplied in blocks of a fixed size, a row has the same
bits in any batch.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.world_model.kv_cache import LayerCache, PromptGroups


class LayerWeights(NamedTuple):
    """The weights and constants of one layer; matrices are (in, out)."""

    qkv: Tensor
    out: Tensor
    up: Tensor
    down: Tensor
    attention_norm: Tensor
    ffn_norm: Tensor
    epsilon: float
    heads: int
    kv_heads: int


class Span(NamedTuple):
    """The positions of t new tokens of each sequence, and the cached tokens that they attend to."""

    tokens: int
    """t."""
    places: slice | Tensor
    """Their places in the sequences' own part of the cache."""
    visible: int
    """Tokens of the own part that attention reads, the new ones included; those of the shared part are all read."""
    angles: tuple[Tensor, Tensor]
    """Cosines and signed sines (t, 1, width) of the new positions."""
    mask: Tensor | None
    """(t, visible), true for what a token attends to; None for all, or if `causal`."""
    causal: bool
    """The new tokens are all that is in the cache, and each attends to itself and those before it."""


def transpose_for_matmul(matrix: Tensor) -> Tensor:
    """The transpose of a matrix; on a CPU contiguous, which makes its products faster."""
    return matrix.t().contiguous() if matrix.device.type == "cpu" else matrix.t()


def blocked_matmul(x: Tensor, matrix: Tensor, block: int) -> Tensor:
    """Multiply rows (N, in) by a matrix (in, out), `block` rows at a time; 0 takes all rows at once.

    N must be a multiple of `block`.
    """
    if block == 0 or len(x) <= block:
        return x @ matrix
    out = x.new_empty(len(x), matrix.shape[1])
    for part, product in zip(torch.split(x, block), torch.split(out, block), strict=True):
        torch.mm(part, matrix, out=product)
    return out


def add_matmul(base: Tensor, x: Tensor, matrix: Tensor, block: int) -> Tensor:
    """`base` plus `blocked_matmul` of the other arguments."""
    if block == 0 and base.dtype == x.dtype:
        return torch.addmm(base, x, matrix)
    return base + blocked_matmul(x, matrix, block)


def pad_rows(x: Tensor, block: int) -> Tensor:
    """Pad rows (N, width) with zeros to a multiple of `block`; 0 does not pad."""
    missing = -len(x) % block if block else 0
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def apply_cached_layer(x: Tensor, layer: LayerWeights, cache: LayerCache, span: Span, batch: int, block: int) -> Tensor:
    """One layer over new tokens, whose keys and values are written to the cache.

    `x` is (N, hidden): the tokens (B * t, hidden) of `batch` sequences, row by row, filled up to blocks. It stays
    float32 if the weights have another type.
    """
    hidden, width, kind = x.shape[1], cache.own.shape[-1], layer.qkv.dtype
    rows = batch * span.tokens
    normed = F.rms_norm(x, (hidden,), layer.attention_norm, layer.epsilon).to(kind)
    qkv = blocked_matmul(normed, layer.qkv, block)[:rows].view(batch, span.tokens, -1, width)
    turning = qkv[:, :, : layer.heads + layer.kv_heads]
    swapped = turning.roll(width // 2, -1)
    turning.mul_(span.angles[0]).addcmul_(swapped, span.angles[1])  # `rotate`, in place
    new = qkv[:, :, layer.heads :].view(batch, span.tokens, 2, layer.kv_heads, width)
    cache.own[:, :, :, span.places] = new.permute(2, 0, 3, 1, 4)
    mixed = attend(qkv[:, :, : layer.heads], cache, span)
    x = add_matmul(x, pad_rows(mixed.reshape(rows, hidden), block), layer.out, block)
    normed = F.rms_norm(x, (hidden,), layer.ffn_norm, layer.epsilon).to(kind)
    gate, up = blocked_matmul(normed, layer.up, block).chunk(2, -1)
    return add_matmul(x, F.silu(gate) * up, layer.down, block)


def attend(query: Tensor, cache: LayerCache, span: Span) -> Tensor:
    """The attended values of queries (B, t, heads, width), with all heads of a token behind one another."""
    batch, count, heads, width = query.shape
    keys, values = cache.own[..., : span.visible, :].unbind()
    kv_heads = keys.shape[1]
    if cache.groups is not None and cache.shared is not None:
        grouped = query.reshape(batch, count, kv_heads, -1, width).transpose(1, 2).flatten(2, 3)
        mask = None if span.mask is None else span.mask.repeat_interleave(heads // kv_heads, 0)
        mixed = attend_to_groups(grouped, (keys, values), cache.shared, cache.groups, mask)
        return mixed.view(batch, kv_heads, count, -1, width).transpose(1, 2)
    if count == 1:
        # Heads that share keys stand as several queries of one head, so that the cache is read once for all of them.
        queries = query.reshape(batch, kv_heads, -1, width)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=span.mask)
    return F.scaled_dot_product_attention(
        query.transpose(1, 2), keys, values, attn_mask=span.mask, is_causal=span.causal, enable_gqa=kv_heads != heads
    ).transpose(1, 2)


def attend_to_groups(
    query: Tensor, own: tuple[Tensor, Tensor], shared: Tensor, groups: PromptGroups, mask: Tensor | None
) -> Tensor:
    """Attention of queries (B, heads, q, width) over their prompt's tokens and then their own.

    Queries of all sequences of a prompt are multiplied with its keys at once, so these are read once. Both parts are
    normalised by themselves and then weighted by their share of the whole sum of exponentials.

    Args:
        query: (B, heads, q, width).
        own: Keys and values (B, heads, n, width).
        shared: Keys and values (2, P, heads, m, width).
        groups: The sequences of each prompt.
        mask: (q, n), true for own tokens that are attended to; None for all.
    """
    size = groups.rows.shape[1]
    query = query * query.shape[-1] ** -0.5
    together = query[groups.rows].transpose(1, 2).flatten(2, 3)
    own_mixed, own_sum = _attend_part(query, *own, mask)
    mixed, total = (
        part.view(*part.shape[:2], size, -1, part.shape[3]).transpose(1, 2).flatten(0, 1)[groups.places]
        for part in _attend_part(together, shared[0], shared[1], None)
    )
    return torch.lerp(own_mixed, mixed, torch.sigmoid(total - own_sum).to(mixed.dtype))


def _attend_part(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention over some of the tokens, (…, q, width), and the logarithm (…, q, 1) of their sum of exponentials."""
    scores = (query @ keys.mT).float()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).to(values.dtype) @ values, scores.logsumexp(-1, keepdim=True)
