"""Weights that are sharded over the ranks of a training (FSDP2), and their whole values.

A sharded weight is a DTensor, of which each rank has some rows; so are its gradient, which the backward pass averages
over ranks, and its optimizer states. Whoever needs whole values, such as a checkpoint, gathers them: all ranks must
call those functions together. Tensors that are not sharded pass through them unchanged.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor


def shard_weights(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a model's weights, in place, over the devices of a mesh.

    Of the model's `layers`, if it has any, each is gathered for its own computation only; the other weights are
    gathered together.
    """
    layers = getattr(model, "layers", ())
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        if hasattr(layer, "forward_shared"):
            register_fsdp_forward_method(layer, "forward_shared")
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this rank has a part of the tensor only."""
    return isinstance(tensor, DTensor)


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """The whole tensor, on all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather_on_cpu(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """The whole tensors, one after another, those that were sharded on the CPU; none of them unless `keep`."""
    whole = {}
    for name, tensor in tensors.items():
        values = gather(tensor.detach())
        if keep:
            whole[name] = values.cpu() if is_sharded(tensor) else values
    return whole


@torch.no_grad()
def shard_like(values: Tensor, like: Tensor) -> Tensor:
    """This rank's part of whole values, sharded as `like` is. Every rank has the same values."""
    if not isinstance(like, DTensor):
        return values
    return distribute_tensor(values.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def load_whole_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dictionary of whole tensors. Raises RuntimeError if it does not fit the module."""
    current = module.state_dict()
    module.load_state_dict(
        {name: shard_like(values, current.get(name, values)) for name, values in state.items()}
    )  # fmt: skip


@torch.no_grad()
def copy_whole_weights(target: nn.Module, source: nn.Module) -> None:
    """Copy the weights of a sharded model to one of the same kind with whole weights."""
    for copy, weight in zip(target.parameters(), source.parameters(), strict=True):
        copy.copy_(gather(weight))
