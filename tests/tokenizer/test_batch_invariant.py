"""The same bits for a picture, whatever else is in the batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.model import DualBranchTokenizer
from roboalign.tokenizer.spec import TokenizerSpec

SPEC: dict[str, Any] = {
    "height": 32, "width": 48, "patch": 4, "widths": [16, 32], "blocks": 1, "context_grid": [4, 6],
    "dynamics_grid": [2, 3], "context_levels": [5, 5], "dynamics_levels": [4, 5, 3], "warps": 2,
    "attention": {"heads": 2, "max_height": 4}, "training": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3},
}  # fmt: skip


@pytest.fixture(scope="module")
def steady() -> BatchInvariantTokenizer:
    torch.manual_seed(0)
    return BatchInvariantTokenizer(DualBranchTokenizer(TokenizerSpec.model_validate(SPEC)).eval())


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def test_a_block_has_so_many_pixels(steady: BatchInvariantTokenizer) -> None:
    assert steady.block == 21
    big = BatchInvariantTokenizer(
        DualBranchTokenizer(TokenizerSpec.model_validate(SPEC | {"height": 256, "width": 384}))
    )
    assert big.block == 1


def test_it_is_the_tokenizer(steady: BatchInvariantTokenizer) -> None:
    plain, first, later = steady.tokenizer, pictures(3), pictures(3, 9)
    with torch.no_grad():
        expected = plain.encode_context(first)
        tokens = plain.encode(expected, later)
        shown = plain.decode(expected, tokens)
    context = steady.encode_context(first)
    assert torch.equal(context.tokens, expected.tokens)
    for ours, theirs in zip(context.features, expected.features, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert torch.equal(steady.encode(context, later), tokens)
    torch.testing.assert_close(steady.decode(context, tokens), shown, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(2, 5), slice(0, 7)])
def test_rows_do_not_change_by_a_bit_with_the_batch(steady: BatchInvariantTokenizer, rows: slice) -> None:
    first, later = pictures(7), pictures(7, 5)
    context, alone = steady.encode_context(first), steady.encode_context(first[rows])
    for whole, part in zip(context.features, alone.features, strict=True):
        assert torch.equal(whole[rows], part)
    tokens = steady.encode(context, later)
    assert torch.equal(tokens[rows], steady.encode(alone, later[rows]))
    shown = steady.decode(context, tokens)
    assert torch.equal(shown[rows], steady.decode(alone, tokens[rows]))
    one_by_one = [steady.decode(alone, tokens[rows, frame : frame + 1]) for frame in range(5)]
    assert torch.equal(shown[rows], torch.cat(one_by_one, 1))


def test_frames_of_another_size_are_refused(steady: BatchInvariantTokenizer) -> None:
    with pytest.raises(ValueError, match="the tokenizer takes"):
        steady.encode_context(torch.rand(2, 3, 16, 16))
