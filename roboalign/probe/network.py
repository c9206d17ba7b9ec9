"""From the frames of one task to points in the picture, and from these to the state."""

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
"""Factor on the difference to the background, which is small beside the colours themselves. Our choice."""

NEAR = 0.1
"""Metres: the unit of the ways between the points."""

TOUCH = 5
"""What the temporal readout says beside the points: opening, contact, force, penetration, success."""


class KeypointEncoder(nn.Module):
    """Looks at single frames: heat maps of gripper, object and goal, and what is seen at those places and in all."""

    def __init__(self, spec: PerceptionSpec, tasks: int) -> None:
        super().__init__()
        widths, self.finest = spec.widths, spec.finest
        self.stem = nn.Conv2d(2 * 3 * 4 + 2, widths[0], 3, padding=1)
        self.task = nn.Embedding(max(tasks, 1), widths[-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        # Full blocks at the finest level would take most of the time; one convolution does there.
        self.deep = nn.ModuleList(nn.Sequential(*(ResidualBlock(w) for _ in range(spec.blocks))) for w in widths[1:])
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.smooth = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths[:-1])
        self.heat = nn.Conv2d(widths[0], COUNT, 1)

    def forward(self, frames: Tensor, backgrounds: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Frames and their tasks' backgrounds (N, 3, H, W) in [0, 1], tasks (N,): heat maps (N, COUNT, h, w), and
        features (N, COUNT, C) at the points and of the whole frame, (N, COUNT + 1, C)."""
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
        shares = (
            F.interpolate(heat, size=middle.shape[-2:], mode="bilinear", align_corners=False).flatten(2).softmax(-1)
        )
        seen = shares @ F.silu(middle).flatten(2).transpose(1, 2)
        return heat, torch.cat([seen, F.silu(middle).mean((2, 3)).unsqueeze(1)], 1)


class EnsembleMember(nn.Module):
    """One network: an eye, and a readout over the neighbouring frames."""

    def __init__(self, spec: PerceptionSpec, tasks: int) -> None:
        super().__init__()
        self.encoder = KeypointEncoder(spec, tasks)
        channels, hidden = spec.widths[spec.finest], spec.hidden_size
        self.enter = nn.Linear((COUNT + 1) * channels + FEATURES, hidden)
        self.task = nn.Embedding(max(tasks, 1), hidden)
        self.mix = nn.ModuleList(nn.Conv1d(hidden, hidden, 3, padding=1, padding_mode="replicate") for _ in range(2))
        self.drop = nn.Dropout(spec.dropout)
        self.place = nn.Linear(hidden, COUNT + 1)
        """How far each point is behind its plane, and how much the frame counts for the goal."""
        self.touch = nn.Sequential(nn.Linear(hidden + 8, hidden), nn.SiLU(), nn.Linear(hidden, TOUCH))
        self.threshold = nn.Embedding(max(tasks, 1), 2)
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)

    def forward(self, videos: Tensor, tasks: Tensor, scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
        """Videos (B, T, 3, H, W) of tasks (B,): points (B, T, COUNT, 3) in metres, the goal the same in all frames;
        touch (B, T, TOUCH): opening, logit of contact, force and penetration as scaled, logit of success; heat maps
        (B * T, COUNT, h, w)."""
        batch, time = videos.shape[:2]
        of = tasks.repeat_interleave(time)
        heat, seen = self.encoder(videos.flatten(0, 1), scenes.background(of), of)
        pixels = centres(heat)
        x = self.enter(torch.cat([seen.flatten(1), geometry(pixels)], 1)) + self.task(of)
        x = x.view(batch, time, -1)
        for mix in self.mix:
            x = x + mix(F.silu(x).transpose(1, 2)).transpose(1, 2)
        x = self.drop(F.silu(x))
        place = self.place(x)
        pixels = pixels.view(batch, time, COUNT, 2)
        depths = scenes.usual_depths(tasks, pixels) + scenes.scatter[tasks].unsqueeze(1) * place[..., :COUNT]
        points = unproject(scenes.lenses[tasks][:, None, None], pixels, depths)
        share = place[..., -1].softmax(1)[..., None]
        goal = (points[:, :, 2] * share).sum(1, keepdim=True).expand(-1, time, -1)
        points = torch.cat([points[:, :, :2], goal.unsqueeze(2)], 2)
        ways = points.diff(dim=2).detach() / NEAR
        lengths = (ways.square().sum(-1) + 1e-6).sqrt()
        touch = self.touch(torch.cat([x, ways.flatten(2), lengths], -1))
        sharp = self.threshold(tasks).unsqueeze(1)
        success = touch[..., 4] + F.softplus(sharp[..., 0] + 2) * (1 + sharp[..., 1] - 2 * lengths[..., 1])
        return points, torch.cat([touch[..., :4], success.unsqueeze(-1)], -1), heat
