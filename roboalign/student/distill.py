"""Distillation: the dimension-weighted Huber loss of the student's scores against the teacher's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from roboalign.reward.encoder import scoring_loss
from roboalign.reward.frames import positions
from roboalign.student.model import Student


def distillation_loss(
    student: Student,
    videos: Tensor,
    instructions: Sequence[str],
    targets: Tensor,
    weights: Tensor,
    generator: torch.Generator | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """The loss of clips (B, T, 3, H, W) whose teacher gives `targets` (B, D), shares of full marks.

    `lengths` (B,) says how many frames of padded clips count; without it all do. `weights` (D,) are the dimensions'
    weights. With a generator, frames are shifted at random, as in training. Call it with the student in training mode;
    its words are hidden and its features dropped then, by torch's global generator.
    """
    if lengths is None:
        lengths = torch.full((len(videos),), videos.shape[1], device=videos.device)
    words = student.vocabulary.encode(instructions).to(videos.device)
    indices = positions(lengths, student.spec.encoder.frames, generator)
    shares, _ = student.regress(videos, lengths, indices, words)
    return scoring_loss(shares, targets, weights, student.spec.delta)
