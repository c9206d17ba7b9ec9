"""The probe's network: predicts image coordinates from frames, and states from image coordinates."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roboalign.probe.camera import unproject
from roboalign.probe.keypoints import COUNT, FEATURES, centres, geometry
from roboalign.probe.scene import Scenes
from roboalign.probe.spec import PerceptionSpec
from roboalign.tokenizer.layers import ResidualBlock

GAIN = 3.0
"""Factor on the difference to the background, which is small compared with the colours (our choice)."""

NEAR = 0.1
"""Unit in metres of the offsets between the points."""

TOUCH = 5
"""Number of outputs besides the points: opening, contact, force, penetration, success."""


class KeypointEncoder(nn.Module):
    """A U-Net over single frames, with heat maps of gripper, object and goal, and features at these points."""

    def __init__(self, spec: PerceptionSpec, tasks: int) -> None:
        super().__init__()
        widths, self.finest = spec.widths, spec.finest
        self.stem = nn.Conv2d(2 * 3 * 4 + 2, widths[0], 3, padding=1)
        self.task = nn.Embedding(max(tasks, 1), widths[-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        # The finest level has one convolution only, because residual blocks there would take most of the time.
        self.deep = nn.ModuleList(nn.Sequential(*(ResidualBlock(w) for _ in range(spec.blocks))) for w in widths[1:])
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.smooth = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths[:-1])
        self.heat = nn.Conv2d(widths[0], COUNT, 1)

    def forward(self, frames: Tensor, backgrounds: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames.

        Args:
            frames: (N, 3, H, W) in [0, 1].
            backgrounds: Median frames (N, 3, H, W) of their tasks, in [0, 1].
            tasks: (N,), task numbers.

        Returns:
            Heat maps (N, COUNT, h, w) of logits, and features (N, COUNT + 1, C) at the points and of the whole frame.
        """
        x = F.pixel_unshuffle(torch.cat([frames - 0.5, GAIN * (frames - backgrounds)], 1), 2)
        rows, columns = x.shape[-2:]
        v = torch.linspace(-1, 1, rows, device=x.device).view(1, 1, -1, 1).expand(len(x), 1, rows, columns)
        u = torch.linspace(-1, 1, columns, device=x.device).view(1, 1, 1, -1).expand(len(x), 1, rows, columns)
        maps = [F.silu(self.stem(torch.cat([x, u, v], 1)))]
        for down, deep in zip(self.down, self.deep, strict=True):
            x = down(maps[-1])
            if len(maps) == len(self.down):
                x = x + self.task(tasks)[:, :, None, None]
            maps.append(deep(x))
        x = maps[-1]
        middle = x
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.up[level](x), size=maps[level].shape[-2:], mode="bilinear", align_corners=False)
            x = x + maps[level]
            x = x + self.smooth[level](F.silu(x))
            if level == self.finest:
                middle = x
        heat = self.heat(F.silu(x))
        attention = (
            F.interpolate(heat, size=middle.shape[-2:], mode="bilinear", align_corners=False).flatten(2).softmax(-1)
        )
        at_points = attention @ F.silu(middle).flatten(2).transpose(1, 2)
        return heat, torch.cat([at_points, F.silu(middle).mean((2, 3)).unsqueeze(1)], 1)


class EnsembleMember(nn.Module):
    """One network of the ensemble: an encoder of single frames, and a temporal readout over neighbouring frames."""

    def __init__(self, spec: PerceptionSpec, tasks: int) -> None:
        super().__init__()
        self.encoder = KeypointEncoder(spec, tasks)
        channels, hidden = spec.widths[spec.finest], spec.hidden_size
        self.enter = nn.Linear((COUNT + 1) * channels + FEATURES, hidden)
        self.task = nn.Embedding(max(tasks, 1), hidden)
        self.mix = nn.ModuleList(nn.Conv1d(hidden, hidden, 3, padding=1, padding_mode="replicate") for _ in range(2))
        self.drop = nn.Dropout(spec.dropout)
        self.place = nn.Linear(hidden, COUNT + 1)
        """Depth of each point behind its plane, and the logit of the frame's weight in the mean over goals."""
        self.touch = nn.Sequential(nn.Linear(hidden + 8, hidden), nn.SiLU(), nn.Linear(hidden, TOUCH))
        self.threshold = nn.Embedding(max(tasks, 1), 2)
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)

    def forward(self, videos: Tensor, tasks: Tensor, scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
        """Predict points and contact from videos (B, T, 3, H, W) in [0, 1] of tasks (B,).

        Returns:
            Points (B, T, COUNT, 3) in metres, with the same goal in all frames; touch (B, T, TOUCH): opening, logit of
            contact, scaled logarithms of force and penetration (see `losses`), logit of success; heat maps
            (B * T, COUNT, h, w) of logits.
        """
        batch, time = videos.shape[:2]
        frame_tasks = tasks.repeat_interleave(time)
        heat, features = self.encoder(videos.flatten(0, 1), scenes.background(frame_tasks), frame_tasks)
        pixels = centres(heat).view(batch, time, COUNT, 2)
        return *self.read(pixels, features.view(batch, time, *features.shape[1:]), tasks, scenes), heat

    def read(self, pixels: Tensor, features: Tensor, tasks: Tensor, scenes: Scenes) -> tuple[Tensor, Tensor]:
        """The readout over the frames of a clip, whatever they were encoded with.

        Args:
            pixels: Image coordinates (B, T, COUNT, 2) of the points.
            features: (B, T, COUNT + 1, C), as the encoder returns them for each frame.
            tasks: (B,), task numbers.
            scenes: The constants of the tasks.

        Returns:
            Points (B, T, COUNT, 3) and touch (B, T, TOUCH), as in `forward`.
        """
        batch, time = pixels.shape[:2]
        frame_tasks = tasks.repeat_interleave(time)
        frames = torch.cat([features.flatten(0, 1).flatten(1), geometry(pixels.flatten(0, 1))], 1)
        x = (self.enter(frames) + self.task(frame_tasks)).view(batch, time, -1)
        for mix in self.mix:
            x = x + mix(F.silu(x).transpose(1, 2)).transpose(1, 2)
        x = self.drop(F.silu(x))
        place = self.place(x)
        depths = scenes.plane_depths(tasks, pixels) + scenes.scatter[tasks].unsqueeze(1) * place[..., :COUNT]
        points = unproject(scenes.lenses[tasks][:, None, None], pixels, depths)
        # The goal does not move, so it is a weighted mean over all frames.
        frame_weights = place[..., -1].softmax(1)[..., None]
        goal = (points[:, :, 2] * frame_weights).sum(1, keepdim=True).expand(-1, time, -1)
        points = torch.cat([points[:, :, :2], goal.unsqueeze(2)], 2)
        offsets = points.diff(dim=2).detach() / NEAR
        lengths = (offsets.square().sum(-1) + 1e-6).sqrt()
        touch = self.touch(torch.cat([x, offsets.flatten(2), lengths], -1))
        # Success also depends on the distance of object and goal by a learned threshold and slope of each task.
        threshold = self.threshold(tasks).unsqueeze(1)
        success = touch[..., 4] + F.softplus(threshold[..., 0] + 2) * (1 + threshold[..., 1] - 2 * lengths[..., 1])
        return points, torch.cat([touch[..., :4], success.unsqueeze(-1)], -1)
