"""Weights sharded by FSDP2 over a mesh of one process: the same gradients, updates and whole values as without."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from roboalign.optimizer import build_optimizer, is_layer_matrix
from roboalign.sharded_weights import (
    copy_whole_weights,
    gather,
    gather_on_cpu,
    is_sharded,
    load_whole_state,
    shard_like,
    shard_weights,
)
from roboalign.world_model.model import WorldModel
from tests.small_models import equal, random_segments, world_model


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMesh]:
    """A mesh of this process alone."""
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path_factory.mktemp('group')}/store", rank=0, world_size=1
    )
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def gradients(model: WorldModel) -> dict[str, Tensor]:
    """Gradients of a loss of six sequences in two groups, which share their contexts, and of three separate ones."""
    batch, loss = random_segments(6), torch.zeros(())
    for rows, prompts in ((6, slice(0, 6, 3)), (3, slice(0, 3))):
        logits = model(
            batch["context"][prompts], batch["dynamics"][:rows], batch["actions"][:rows], batch["action_mask"][:rows]
        )
        loss = loss + logits.square().mean()
    torch.autograd.backward(loss)
    return {name: gather(p.grad).clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("recompute", [False, True])
def test_a_sharded_model_computes_what_a_whole_one_does(mesh: DeviceMesh, recompute: bool) -> None:
    whole, sharded = world_model(1, layers=2), world_model(1, layers=2)
    whole.activation_checkpointing = sharded.activation_checkpointing = recompute
    shard_weights(sharded, mesh)
    assert all(is_sharded(parameter) for parameter in sharded.parameters())
    expected, found = gradients(whole), gradients(sharded)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_optimizers_update_sharded_weights_as_whole_ones(mesh: DeviceMesh, optimizer: str) -> None:
    models = [
        world_model(1, layers=2, training={"steps": 1, "batch_size": 1, "learning_rate": 0.01, "optimizer": optimizer})
        for _ in range(2)
    ]
    shard_weights(models[1], mesh)
    for model in models:
        updater = build_optimizer(model.named_parameters(), model.spec.training, is_hidden=is_layer_matrix)
        for _ in range(2):
            updater.zero_grad()
            gradients(model)
            updater.step()
    for (name, values), parameter in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(gather(parameter), values, atol=1e-5, rtol=0, msg=name)


def test_whole_values_and_shards_are_converted(mesh: DeviceMesh) -> None:
    model, other, copy = (world_model(seed) for seed in (1, 2, 3))
    shard_weights(model, mesh)
    state = gather_on_cpu(model.state_dict())
    assert not any(is_sharded(values) for values in state.values())
    assert gather_on_cpu(model.state_dict(), keep=False) == {}
    whole = world_model(1)
    assert all(torch.equal(values, whole.state_dict()[name]) for name, values in state.items())
    load_whole_state(model, other.state_dict())
    copy_whole_weights(copy, model)
    assert equal(copy, other)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_whole_state(model, {})
    plain = torch.ones(3)
    assert gather(plain) is plain
    assert shard_like(plain, torch.zeros(3)) is plain
