"""Random numbers by name instead of by turn: the noise of (seed, frame, place, code) is a pure function of the four.

Rollouts drawn this way do not depend on what else is in the batch, on how it is split, or on where a rollout was
interrupted and taken up again. The mixers are our arrangement of the well-known splitmix64 and lowbias32 finalisers.
"""

import torch
from torch import Tensor


def _shift(x: Tensor, bits: int, width: int) -> Tensor:
    """The logical right shift of signed integers of `width` bits."""
    return (x >> bits) & ((1 << (width - bits)) - 1)


def _signed(number: int) -> int:
    """A 64-bit constant as the signed integer with the same bits."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _mix64(x: Tensor) -> Tensor:
    """A bijection of 64-bit integers that spreads each bit over all."""
    x = (x ^ _shift(x, 30, 64)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27, 64)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31, 64)


def _mix32(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers that spreads each bit over all."""
    x = (x ^ _shift(x, 16, 32)) * 0x7FEB352D
    x = (x ^ _shift(x, 15, 32)) * (0x846CA68B - (1 << 32))
    return x ^ _shift(x, 16, 32)


def gumbel(seeds: Tensor, frame: int, places: int, codes: int) -> Tensor:
    """Standard Gumbel noise (B, places, codes), float32, for the rows' `seeds` (B,) and the absolute `frame`.

    The largest of logits plus this noise is a sample of their softmax (the Gumbel-max trick).
    """
    place = torch.arange(places, device=seeds.device)
    key = _mix64(_mix64(seeds.long()[:, None] + _signed(0x9E3779B97F4A7C15)) + (frame << 20) + place)
    low, high = key.to(torch.int32)[..., None], _shift(key, 32, 64).to(torch.int32)[..., None]
    code = torch.arange(codes, device=seeds.device, dtype=torch.int32)
    bits = _mix32(_mix32(code ^ low) ^ high)
    uniform = (_shift(bits, 9, 32).float() + 0.5) * 2**-23  # never 0 or 1
    return uniform.log_().neg_().log_().neg_()
