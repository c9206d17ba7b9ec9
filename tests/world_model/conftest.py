"""A world model of a few thousand weights over a made-up tokenizer of 6 context and 4 dynamics tokens."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from roboalign.spec.training import TrainingSpec
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel
from roboalign.world_model.spec import WorldModelSpec

SHAPE = TokenShape(6, 4, (4, 3), (3, 5), 3)

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., WorldModelSpec]:
    """A small spec, with changes."""

    def build(**changes: Any) -> WorldModelSpec:
        fields: dict[str, Any] = {
            "layers": 2,
            "hidden_size": 24,
            "heads": 3,
            "kv_heads": 3,
            "intermediate_size": 40,
            "max_position_embeddings": 128,
            "training": TrainingSpec(steps=4, batch_size=2, learning_rate=0.01),
        }
        return WorldModelSpec.model_validate(fields | changes)

    return build


@pytest.fixture(scope="session")
def model_of(spec_of: Callable[..., WorldModelSpec]) -> Callable[..., WorldModel]:
    """A small model whose logits differ enough for mistakes to show."""

    def build(shape: TokenShape = SHAPE, **changes: Any) -> WorldModel:
        torch.manual_seed(0)
        model = WorldModel(spec_of(**changes), shape)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter + 0.2 * torch.randn_like(parameter))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def batch_of() -> Callable[..., Batch]:
    """Random prompts, dynamics, actions and action masks (the last dimension is missing in odd rows)."""

    def build(rows: int = 3, frames: int = 4, shape: TokenShape = SHAPE, seed: int = 1) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        context = torch.randint(shape.context_codes, (rows, shape.context_tokens), generator=generator)
        still = torch.randint(shape.dynamics_codes, (rows, shape.dynamics_tokens), generator=generator)
        dynamics = torch.randint(shape.dynamics_codes, (rows, frames, shape.dynamics_tokens), generator=generator)
        actions = torch.rand(rows, frames, shape.action_width, generator=generator) * 2 - 1
        mask = torch.ones(rows, shape.action_width, dtype=torch.bool)
        mask[1::2, -1] = False
        return torch.cat([context, still], 1), dynamics, actions, mask

    return build
