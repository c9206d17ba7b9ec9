"""States and success in growing clips: a state probe that sees each frame once.

The probe's encoder reads single frames and takes nearly all of its time; its readout over the frames of a clip is
cheap. What the encoder returned is kept, so a step costs one frame and not the whole clip. The states are those of
`Probe.states` for the clip so far. Frames go through the encoder in padded chunks of a fixed size, since the results of
convolutions depend on the batch size.
"""

import copy
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.probe.keypoints import COUNT, centres
from roboalign.probe.model import Probe
from roboalign.probe.network import EnsembleMember
from roboalign.probe.targets import as_state
from roboalign.types import STATE_NAMES, Float32, UInt8
from roboalign.video import frames_to_video

CHUNK = 8
"""Frames of a chunk."""


class StateTracker:
    """The perceived states of N growing clips of one source."""

    def __init__(self, probe: Probe, source: str, copies: int, frames: int) -> None:
        """`frames` is the greatest length of a clip."""
        self.probe, self.source = probe, source
        self.tasks = torch.full((copies,), -1, device=probe.scenes.means.device)
        """The number of each clip's task in the probe; -1 if the probe does not cover it."""
        spec = probe.spec
        sizes = len(probe.members), copies, frames
        self._pixels = torch.zeros(*sizes, COUNT, 2, device=self.tasks.device)
        self._features = torch.zeros(*sizes, COUNT + 1, spec.widths[spec.finest], device=self.tasks.device)

    def begin(self, rows: NDArray[np.int64], tasks: list[str | None], images: UInt8) -> None:
        """Begin the clips `rows` with images (R, H, W, 3). A task of None is recognised by its background."""
        if images.shape[1:3] != self.probe.size:
            self.tasks[rows] = -1
            return
        seen = self.probe.scenes.identify(frames_to_video(images, self.tasks.device)).tolist()
        covered = self.probe.tasks
        for row, task, nearest in zip(rows, tasks, seen, strict=True):
            known = (
                nearest
                if task is None
                else covered.index((self.source, task))
                if (self.source, task) in covered
                else -1
            )
            self.tasks[row] = known if known >= 0 and covered[known][0] == self.source else -1

    @torch.inference_mode()
    def read(
        self, rows: NDArray[np.int64], clips: UInt8, steps: NDArray[np.int64]
    ) -> tuple[Float32, NDArray[np.bool_]]:
        """Read the latest frames of the clips `rows`.

        Args:
            rows: (R,).
            clips: (N, F, H, W, 3), all clips.
            steps: (R,), the number of the latest frame of each; those before it were read.

        Returns:
            States (R, 14) at that frame, and for which rows they are known, (R,).
        """
        states = np.zeros((len(rows), len(STATE_NAMES)), np.float32)
        known: NDArray[np.bool_] = (self.tasks[rows] >= 0).cpu().numpy()
        if not known.any():
            return states, known
        mine, latest = rows[known], steps[known]
        self._encode(mine, clips[mine, latest], latest)
        found = np.zeros((len(mine), len(STATE_NAMES)), np.float32)
        for step in np.unique(latest):
            places = np.flatnonzero(latest == step)
            found[places] = self._read_out(mine[places], int(step) + 1).cpu().numpy()
        states[known] = found
        return states, known

    def _encode(self, rows: NDArray[np.int64], images: UInt8, steps: NDArray[np.int64]) -> None:
        device = self.tasks.device
        frames, tasks = frames_to_video(images, device), self.tasks[rows]
        padded = torch.arange(-(-len(rows) // CHUNK) * CHUNK, device=device).clamp(max=len(rows) - 1)
        for index in range(len(self.probe.members)):
            member = self._member(index)
            for part in torch.split(padded, CHUNK):
                backgrounds = self.probe.scenes.background(tasks[part])
                heat, features = member.encoder(frames[part], backgrounds, tasks[part])
                places = part.cpu().numpy()
                self._pixels[index, rows[places], steps[places]] = centres(heat)
                self._features[index, rows[places], steps[places]] = features

    def _read_out(self, rows: NDArray[np.int64], length: int) -> Tensor:
        """The states (R, 14) at the last of `length` frames, the mean over the members."""
        tasks = self.tasks[rows]
        forces = self.probe.scenes.forces[tasks]
        states = []
        for index in range(len(self.probe.members)):
            pixels, features = self._pixels[index, rows, :length], self._features[index, rows, :length]
            states.append(
                as_state(*self._member(index).read(pixels, features, tasks, self.probe.scenes), forces)[:, -1]
            )
        return torch.stack(states).mean(0)

    def _member(self, index: int) -> EnsembleMember:
        member = self.probe.members[index]
        assert isinstance(member, EnsembleMember)
        return member

    def select(self, rows: NDArray[np.int64]) -> Self:
        """A copy with the clips `rows`, which may repeat."""
        new = copy.copy(self)
        new.tasks = self.tasks[rows]
        new._pixels, new._features = self._pixels[:, rows], self._features[:, rows]
        return new
