"""A transformer layer over new tokens and a key-value cache, with the same bits for a row in any batch.

The result of a matrix product depends on the number of rows, so rows are multiplied in blocks of a fixed size.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from roboalign.world_model.model import rotate


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
    for start in range(0, len(x), block):
        torch.mm(x[start : start + block], matrix, out=out[start : start + block])
    return out


def pad_rows(x: Tensor, block: int) -> Tensor:
    """Pad rows (N, width) with zeros to a multiple of `block`; 0 does not pad."""
    missing = -len(x) % block if block else 0
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def apply_cached_layer(
    x: Tensor,
    layer: LayerWeights,
    key: Tensor,
    value: Tensor,
    sizes: tuple[int, int, int],
    angles: tuple[Tensor, Tensor],
    mask: Tensor | None,
    block: int,
) -> Tensor:
    """One layer over new tokens, whose keys and values are written to the cache (B, heads, capacity, width).

    `x` is (N, hidden): the tokens (B * t, hidden), row by row, filled up to blocks. `sizes` are B, how many tokens the
    cache holds before and after. `angles` are those of the new positions, `mask` (t, after) where it is needed.
    """
    (batch, cached, end), hidden = sizes, x.shape[1]
    rows, count, width = batch * (end - cached), end - cached, key.shape[-1]
    normed = F.rms_norm(x, (hidden,), layer.attention_norm, layer.epsilon)
    qkv = blocked_matmul(normed, layer.qkv, block)[:rows].view(batch, count, -1, width)
    turning = layer.heads + layer.kv_heads
    both = rotate(qkv[:, :, :turning], *angles).transpose(1, 2)
    key[:, :, cached:end] = both[:, layer.heads :]
    value[:, :, cached:end] = qkv[:, :, turning:].transpose(1, 2)
    query, cache = both[:, : layer.heads], (key[:, :, :end], value[:, :, :end])
    if count == 1:
        # Heads that share keys stand as several queries of one head, so that the cache is read once for all of them.
        mixed = F.scaled_dot_product_attention(query.reshape(batch, layer.kv_heads, -1, width), *cache)
    else:
        causal, grouped = cached == 0, layer.kv_heads != layer.heads
        mixed = F.scaled_dot_product_attention(query, *cache, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
        mixed = mixed.transpose(1, 2)
    x = x + blocked_matmul(pad_rows(mixed.reshape(rows, hidden), block), layer.out, block)
    normed = F.rms_norm(x, (hidden,), layer.ffn_norm, layer.epsilon)
    gate, up = blocked_matmul(normed, layer.up, block).chunk(2, -1)
    return x + blocked_matmul(F.silu(gate) * up, layer.down, block)
