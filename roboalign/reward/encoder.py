"""The visual-text encoder that judge and student are built on, each with its own sizes and its own head."""

from typing import Any

import torch
from torch import Tensor, nn

from roboalign.reward.frames import CHANNELS, PROFILE, profile, views
from roboalign.reward.landmarks import COUNT, FEATURES, centres, geometry
from roboalign.reward.spec import EncoderSpec
from roboalign.reward.text import TextEncoder, transformer


class VisualTextEncoder(nn.Module):
    """Clips and word numbers to one feature vector each.

    A timm backbone looks at a few frames (with their differences to the first and to the next one) and finds gripper,
    object and goal in them; a transformer
    joins them with the motion profile of the whole clip and the words of the instruction.
    """

    def __init__(self, spec: EncoderSpec, vocabulary: int) -> None:
        super().__init__()
        import timm  # here, because it takes seconds, which stages without a scorer need not wait

        self.spec = spec
        options: dict[str, Any] = {
            "features_only": True,
            "out_indices": (spec.landmark_level, spec.level),
            "in_chans": CHANNELS,
        }
        if spec.image_size is not None:
            options["img_size"] = spec.image_size
        backbone: Any = timm.create_model(spec.backbone, **options)
        self.backbone = backbone
        for name, parameter in backbone.named_parameters():
            if name.endswith(".gamma"):
                # Layer scale starts the blocks of deep ConvNeXts switched off; a short training needs them on.
                nn.init.ones_(parameter)
        channels = backbone.feature_info.channels()
        self.heat = nn.Conv2d(channels[0], COUNT, 1)
        self.spots = nn.Sequential(nn.Linear(FEATURES, spec.width), nn.GELU(), nn.Linear(spec.width, spec.width))
        self.outcome = nn.Sequential(nn.Linear(2 * FEATURES, spec.width), nn.GELU(), nn.Linear(spec.width, spec.width))
        self.pool = nn.AdaptiveAvgPool2d(spec.grid)
        self.reduce = nn.Conv2d(channels[-1], spec.channels, 1)
        self.enter = nn.Sequential(
            nn.LayerNorm(spec.channels * spec.grid**2), nn.Linear(spec.channels * spec.grid**2, spec.width)
        )
        self.places = nn.Parameter(torch.randn(spec.frames, spec.width) * 0.02)
        self.summary = nn.Parameter(torch.randn(1, spec.width) * 0.02)
        self.motion = nn.Sequential(nn.Linear(PROFILE, spec.width), nn.GELU(), nn.Linear(spec.width, spec.width))
        self.text = TextEncoder(
            vocabulary, spec.text.words, spec.width, spec.text.layers, spec.heads, spec.text.hidden_words
        )
        self.body = transformer(spec.width, spec.layers, spec.heads, spec.dropout)

    def frames(self, videos: Tensor, lengths: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, K + 1, width) of the frames at `indices` (B, K) and of their outcome, and the frames' heat maps
        (B * K, COUNT, h, w)."""
        images = views(videos, lengths, indices)
        if self.spec.image_size is not None and tuple(images.shape[-2:]) != self.spec.image_size:
            raise ValueError(
                f"the scorer was built for frames of {self.spec.image_size} pixels, not {tuple(images.shape[-2:])}"
            )
        maps = self.backbone(images.flatten(0, 1))
        heat = self.heat(maps[0])
        spots = geometry(centres(heat)).view(*images.shape[:2], FEATURES)
        features = self.enter(self.reduce(self.pool(maps[-1])).flatten(1)).unflatten(0, images.shape[:2])
        # What came of it, the first and the last frame side by side, has a token of its own.
        outcome = self.outcome(spots[:, [0, -1]].flatten(1)).unsqueeze(1)
        return torch.cat([features + self.spots(spots) + self.places, outcome], dim=1), heat

    def join(self, frames: Tensor, motion: Tensor, numbers: Tensor) -> Tensor:
        """Clip features (B, width) of what `frames` gives, motion profiles (B, PROFILE) and words (B, L)."""
        words, empty = self.text(numbers)
        tokens = torch.cat([self.summary + frames[:, -1:], self.motion(motion).unsqueeze(1), frames, words], dim=1)
        seen = torch.zeros(len(frames), tokens.shape[1] - empty.shape[1], dtype=torch.bool, device=empty.device)
        features: Tensor = self.body(tokens, src_key_padding_mask=torch.cat([seen, empty], dim=1))
        return features[:, 0]

    def forward(self, videos: Tensor, lengths: Tensor, indices: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Clip features (B, width) of videos (B, T, 3, H, W), of which `lengths` (B,) frames count, and heat maps."""
        frames, heat = self.frames(videos, lengths, indices)
        return self.join(frames, profile(videos, lengths), numbers), heat


def scoring_loss(shares: Tensor, targets: Tensor, weights: Tensor, delta: float) -> Tensor:
    """The dimension-weighted Huber loss (paper) of shares of full marks (B, D); `weights` (D,) need not add up to 1."""
    losses = nn.functional.huber_loss(shares, targets, reduction="none", delta=delta) / delta
    return (losses * weights).sum(1).mean() / weights.sum()
