"""Gradients of trainings, to compare how they are computed: AdamW hides their scale, and amplifies their rounding."""

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class GradientRecorder(Callback):
    """Keeps the gradients of the first step of each optimizer, averaged and clipped, by parameter."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keep those that are new."""
        trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in module.named_parameters():
            if parameter in trained and parameter.grad is not None and name not in self.gradients:
                self.gradients[name] = parameter.grad.clone()


def assert_equal_gradients(found: GradientRecorder, expected: GradientRecorder) -> None:
    """Both have the same gradients, up to 1e-5 of the largest."""
    assert found.gradients.keys() == expected.gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.gradients.values())
    assert largest > 0
    for name, gradient in expected.gradients.items():
        difference = float((found.gradients[name] - gradient).abs().max())
        assert difference <= 1e-5 * largest, f"{name} differs by {difference}, the largest gradient is {largest}"
