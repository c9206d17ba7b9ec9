"""Counter-based random numbers: the noise is a pure function of (seed, frame, place, code).

Rollouts therefore do not depend on the rest of the batch, on how it is split, or on where a rollout was interrupted
and resumed. The mixers are our arrangement of the well-known splitmix64 and lowbias32 finalisers.
"""

import torch
from torch import Tensor


def _shift(x: Tensor, bits: int, width: int) -> Tensor:
    """The logical right shift of signed integers of `width` bits."""
    return (x >> bits) & ((1 << (width - bits)) - 1)


def _as_signed(number: int) -> int:
    """A 64-bit constant as the signed integer with the same bits."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _mix64(x: Tensor) -> Tensor:
    """A bijection of 64-bit integers that spreads each bit over all."""
    x = (x ^ _shift(x, 30, 64)) * _as_signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27, 64)) * _as_signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31, 64)


def noise_keys(seeds: Tensor, frame: int, places: int) -> Tensor:
    """A 64-bit key (B, places) for each row's seed (B,), the absolute `frame`, and each place in it."""
    place = torch.arange(places, device=seeds.device)
    return _mix64(_mix64(seeds.long()[:, None] + _as_signed(0x9E3779B97F4A7C15)) + (frame << 20) + place)


def gumbel(keys: Tensor, codes: int) -> Tensor:
    """Standard Gumbel noise (..., codes), float32, from `keys` (...), each used for all codes of one token.

    The largest of logits plus this noise is a sample of their softmax (the Gumbel-max trick).
    """
    low, high = keys.to(torch.int32)[..., None], _shift(keys, 32, 64).to(torch.int32)[..., None]
    bits = torch.arange(codes, device=keys.device, dtype=torch.int32) ^ low
    shifted = torch.empty_like(bits)

    def xor_shift(distance: int) -> None:
        """bits ^= bits >> distance, logical, without a new tensor: this is most of what sampling costs."""
        torch.bitwise_right_shift(bits, distance, out=shifted)
        bits.bitwise_xor_(shifted.bitwise_and_((1 << (32 - distance)) - 1))

    # lowbias32, a bijection of 32-bit integers that spreads each bit over all; the key's other half enters midway.
    xor_shift(16)
    bits.mul_(0x7FEB352D).add_(high)
    xor_shift(15)
    bits.mul_(0x846CA68B - (1 << 32))
    xor_shift(16)
    uniform = torch.bitwise_right_shift(bits, 9, out=shifted).bitwise_and_((1 << 23) - 1).float()
    return uniform.add_(0.5).mul_(2**-23).log_().neg_().log_().neg_()  # the argument of log is never 0 or 1
