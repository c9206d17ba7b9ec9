"""Small untrained tokenizers and world models, from a seed."""

from typing import Any

import torch
from torch import Tensor

from roboalign.tokenizer.interface import Tokenizer
from roboalign.tokenizer.model import build_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel, seeded_world_model
from roboalign.world_model.spec import WorldModelSpec

TRAINING = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3}
SHAPE = TokenShape(6, 4, (4, 3), (3, 5), 3)


def tokenizer(seed: int, **changes: Any) -> Tokenizer:
    fields = {
        "height": 16, "width": 16, "patch": 4, "widths": [8], "blocks": 1, "context_grid": [4, 4],
        "dynamics_grid": [2, 2], "context_levels": [5, 5], "dynamics_levels": [4, 5, 3],
        "attention": {"heads": 2, "max_height": 4}, "training": TRAINING,
    }  # fmt: skip
    torch.manual_seed(seed)
    return build_tokenizer(TokenizerSpec.model_validate(fields | changes))


def world_model(seed: int, shape: TokenShape = SHAPE, **changes: Any) -> WorldModel:
    fields = {
        "layers": 1, "hidden_size": 24, "heads": 3, "kv_heads": 3, "intermediate_size": 40,
        "max_position_embeddings": 128, "training": TRAINING,
    }  # fmt: skip
    return seeded_world_model(WorldModelSpec.model_validate(fields | changes), shape, seed)


def random_segments(count: int, seed: int = 0) -> dict[str, Tensor]:
    """Random segments of three frames for world models of SHAPE."""
    generator = torch.Generator().manual_seed(seed)

    def codes(high: int, *shape: int) -> Tensor:
        return torch.randint(high, (count, *shape), generator=generator)

    return {
        "context": torch.cat([codes(12, 6), codes(15, 4)], 1), "dynamics": codes(15, 3, 4),
        "actions": torch.rand((count, 3, 3), generator=generator) * 2 - 1,
        "action_mask": torch.ones(count, 3, dtype=torch.bool),
    }  # fmt: skip


def equal(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    state = right.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in left.state_dict().items())
