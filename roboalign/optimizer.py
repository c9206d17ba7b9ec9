"""The optimizers that specs can choose: AdamW, and Muon for matrices and convolutions with AdamW for the rest.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by a nearby matrix whose
singular values are about 1, so that all directions are updated equally. Updates are scaled to the root mean square of
AdamW's ("Muon is Scalable for LLM Training", arXiv 2502.16982), so both use one learning rate. torch.optim.Muon takes
matrices only and computes in bfloat16, which is slow on CPUs without it; this one also takes convolutions, as matrices
with one row for each output channel, and computes in float32.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from roboalign.sharded_weights import gather, shard_like
from roboalign.spec.training import TrainingSpec

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration (Jordan et al.), which brings singular values to about 0.7 to
1.2."""
ITERATIONS = 5
RMS = 0.2
"""Root mean square of an AdamW step, in learning rates (arXiv 2502.16982)."""


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices (..., m, n) to about 1 by Newton-Schulz iterations; 0 stays 0."""
    a, b, c = COEFFICIENTS
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.AdamW):
    """Muon for parameter groups with `muon: True`, AdamW for the others."""

    def __init__(self, groups: Iterable[dict[str, Any]], *, momentum: float = 0.95, **adamw: Any) -> None:
        super().__init__(groups, **adamw)
        self.momentum = momentum

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters, with the gradients of the last backward pass or of `closure`, whose loss is
        returned."""
        loss: float | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("muon")]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("muon"):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._muon_step(parameter, parameter.grad, group["lr"], group["weight_decay"])
        return loss

    def _muon_step(self, parameter: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        """One Muon update of a parameter (rows, ...), which is flattened to (rows, columns)."""
        state = self.state[parameter]
        if not state:
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(parameter)}
        state["step"] += 1  # AdamW.load_state_dict, which this class inherits, expects a step count
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - self.momentum)
        # Of a sharded parameter, every rank orthogonalizes the whole matrix, and takes its own rows of the result.
        direction = gather(gradient.lerp(momentum, self.momentum))
        with torch.autocast(parameter.device.type, enabled=False):  # a step may be within a module's mixed precision
            update = orthogonalize(direction.flatten(1))
        parameter.mul_(1 - rate * decay)
        size = max(update.shape) ** 0.5
        parameter.add_(shard_like(update.view_as(direction), parameter), alpha=-rate * RMS * size)


def is_layer_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix inside a transformer's `layers`, not an embedding, a norm or the output head."""
    return name.startswith("layers.") and parameter.ndim == 2


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]],
    spec: TrainingSpec,
    *,
    is_hidden: Callable[[str, nn.Parameter], bool] = lambda name, parameter: parameter.ndim > 1,
    scale: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Muon:
    """Build the optimizer of a spec.

    Args:
        parameters: Named parameters.
        spec: Learning rate, weight decay, and AdamW or Muon.
        is_hidden: Selects matrices and convolutions between hidden features. Only these have weight decay, and Muon if
            the spec chooses it. The others use AdamW; Muon's orthogonalisation does not suit embeddings, biases and
            norms.
        scale: Factor on the learning rates.
        betas: AdamW's betas.
    """
    hidden: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in parameters:
        hidden[is_hidden(name, parameter)].append(parameter)
    muon = spec.optimizer == "muon"
    groups: list[dict[str, Any]] = [
        {
            "params": hidden[True],
            "weight_decay": spec.weight_decay,
            "muon": muon,
            "lr_scale": scale * (spec.muon_scale if muon else 1.0),
        },
        {"params": hidden[False], "weight_decay": 0.0, "lr_scale": scale},
    ]
    return Muon([group for group in groups if group["params"]], lr=spec.learning_rate, betas=betas)
