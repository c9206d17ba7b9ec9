"""A patch discriminator: says for each region of a frame whether it is real (Isola et al., arXiv 1611.07004)."""

from torch import Tensor, nn


class Discriminator(nn.Module):
    """Three convolutions of stride 2, doubling `width`, and one logit for each region of 8x8 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for inputs in (width, 2 * width):
            layers += [nn.Conv2d(inputs, 2 * inputs, 4, stride=2, padding=1), nn.GroupNorm(8, 2 * inputs)]
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, padding=1))

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) in [0, 1] to logits (N, 1, H / 8, W / 8)."""
        logits: Tensor = self.layers(2 * frames - 1)
        return logits
