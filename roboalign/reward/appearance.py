"""An image backbone over raw frames, for scenes that no state probe covers."""

from typing import Any

import torch
from torch import Tensor, nn

from roboalign.reward.frames import CHANNELS, frame_positions, frame_views
from roboalign.reward.spec import AppearanceSpec


class AppearanceEncoder(nn.Module):
    """A timm backbone over a few frames, each stacked with its differences to the first and to the next frame."""

    def __init__(self, spec: AppearanceSpec, width: int) -> None:
        super().__init__()
        import timm  # imported here because it takes seconds, which models without a backbone should not wait

        self.spec = spec
        options: dict[str, Any] = {"features_only": True, "out_indices": (spec.level,), "in_chans": CHANNELS}
        if spec.image_size is not None:
            options["img_size"] = spec.image_size
        backbone: Any = timm.create_model(spec.backbone, **options)
        self.backbone = backbone
        for name, parameter in backbone.named_parameters():
            if name.endswith(".gamma"):
                # Layer scale initialises the blocks of deep ConvNeXts near 0, too small for a short training.
                nn.init.ones_(parameter)
        self.pool = nn.AdaptiveAvgPool2d(spec.grid)
        self.reduce = nn.Conv2d(backbone.feature_info.channels()[-1], spec.channels, 1)
        size = spec.channels * spec.grid**2
        self.enter = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width))
        self.places = nn.Parameter(torch.randn(spec.frames, width) * 0.02)

    def forward(self, videos: Tensor, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode videos as one token for each sampled frame.

        Args:
            videos: (B, T, 3, H, W), uint8 or in [0, 1], padded at the end.
            lengths: (B,), number of valid frames of each video.
            generator: If set, shifts the sampled frames at random, as in training.

        Returns:
            Features (B, frames, width).

        Raises:
            ValueError: The images have another size than the backbone was built for.
        """
        images = frame_views(videos, lengths, frame_positions(lengths, self.spec.frames, generator))
        if self.spec.image_size is not None and tuple(images.shape[-2:]) != self.spec.image_size:
            raise ValueError(
                f"the backbone was built for frames of {self.spec.image_size} pixels, not {tuple(images.shape[-2:])}"
            )
        maps = self.backbone(images.flatten(0, 1))[-1]
        features: Tensor = self.enter(self.reduce(self.pool(maps)).flatten(1)).unflatten(0, images.shape[:2])
        return features + self.places
