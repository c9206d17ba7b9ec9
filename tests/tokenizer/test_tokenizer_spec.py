from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError

from roboalign.tokenizer.model import DualBranchTokenizer
from roboalign.tokenizer.spec import TokenizerSpec

SPECS = Path(__file__).parents[2] / "specs/tokenizer"
SMALL: dict[str, Any] = {
    "height": 32, "width": 48, "patch": 2, "widths": [8, 16, 24], "context_grid": [8, 12], "dynamics_grid": [2, 6],
    "attention": {"heads": 2, "max_height": 8}, "training": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3},
}  # fmt: skip


def small(**changes: Any) -> TokenizerSpec:
    return TokenizerSpec.model_validate(SMALL | changes)


def built(spec: TokenizerSpec) -> int:
    """The parameters of the real model, built without memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in DualBranchTokenizer(spec).parameters())


def test_paper_has_the_papers_sizes() -> None:
    spec = TokenizerSpec.model_validate(yaml.safe_load((SPECS / "paper.yaml").read_text()))
    assert (spec.context_tokens, spec.dynamics_tokens) == (1280, 80)
    assert (spec.context_codes, spec.dynamics_codes) == (4375, 4375)
    assert [spec.resolution(level) for level in range(4)] == [(256, 320), (128, 160), (64, 80), (32, 40)]
    assert [spec.attends(level) for level in range(4)] == [False, False, False, True]
    assert spec.cells_per_token(spec.dynamics_grid) == (4, 4)


@pytest.mark.parametrize("name", ["tiny", "smoke", "paper"])
def test_shipped_specs_count_their_parameters(name: str) -> None:
    spec = TokenizerSpec.model_validate(yaml.safe_load((SPECS / f"{name}.yaml").read_text()))
    assert spec.parameters == built(spec)


@pytest.mark.parametrize(
    ("context", "dynamics", "warps", "blocks", "reach"),
    list(product([(8, 12), (16, 24)], [(4, 6), (1, 3), (8, 4)], [0, 3], [1, 2], [0, 4, 16]))[::3],
)
def test_parameters_are_those_of_the_model(
    context: tuple[int, int], dynamics: tuple[int, int], warps: int, blocks: int, reach: int
) -> None:
    spec = small(
        context_grid=context, dynamics_grid=dynamics, warps=warps, blocks=blocks,
        attention={"heads": 4, "max_height": reach},
    )  # fmt: skip
    assert spec.parameters == built(spec)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"height": 34}, "widths", "does not divide its height 34"),
        ({"dynamics_grid": [3, 6]}, "dynamics_grid", "3 x 6 does not divide the first level's 16 x 24"),
        ({"context_grid": [0, 6]}, "context_grid", "does not divide"),
        ({"attention": {"heads": 5}}, "attention", "5 heads do not divide the 8 channels of level 0"),
        ({"widths": [12]}, "widths.0", "multiple of 8"),
        ({"dynamics_levels": [1]}, "dynamics_levels.0", "greater than or equal to 2"),
        ({"wraps": 1}, "wraps", "not permitted"),
    ],
)
def test_what_does_not_fit_is_refused_at_its_field(changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        small(**changes)
    error = caught.value.errors()[0]
    assert ".".join(map(str, error["loc"])) == field
    assert message in error["msg"]
