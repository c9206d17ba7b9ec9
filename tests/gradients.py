"""Gradients of trainings, to compare how they are computed: AdamW hides their scale, and amplifies their rounding."""

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn


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


def assert_equal_weights(found: nn.Module, expected: nn.Module, recorder: GradientRecorder) -> None:
    """Both have the same weights, up to 1e-5, where the first gradient was not zero up to rounding.

    AdamW makes steps of the size of the learning rate of a gradient that is zero up to rounding, in any direction.
    """
    largest = max(float(gradient.abs().max()) for gradient in recorder.gradients.values())
    others = found.state_dict()
    for name, values in expected.state_dict().items():
        gradients = [gradient for key, gradient in recorder.gradients.items() if f".{key}".endswith(f".{name}")]
        known = gradients[0].abs() > 1e-5 * largest if gradients else torch.ones_like(values, dtype=torch.bool)
        difference = (others[name] - values).abs() * known
        assert float(difference.max()) <= 1e-5, f"{name} differs by {float(difference.max())}"
