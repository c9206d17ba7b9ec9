"""Distillation: what the student learns from the judge's scores, and from what the judge's state probe perceives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.bench.dataset import SETS, SetPlan, clips_of
from roboalign.bench.pairs import Bench
from roboalign.probe.model import Probe
from roboalign.probe.targets import WEIGHTS, losses
from roboalign.reward.frames import pixels, profile
from roboalign.reward.model import Observation, scoring_loss
from roboalign.reward.state_features import STATE_FEATURES, sample_frames
from roboalign.student.model import Student


@dataclass(frozen=True)
class DistillationClips:
    """N clips as the student reads them, K frames each, with what its teachers say; the last frame is repeated where a
    clip has fewer frames."""

    frames: Tensor
    """(N, K, 3, H, W), uint8."""
    tasks: Tensor
    """(N,): the scene that the eyes know, or -1."""
    rest: Tensor
    """(N, K, R)."""
    valid: Tensor
    """(N, K)."""
    motion: Tensor
    """(N, PROFILE)."""
    words: Tensor
    """(N, L)."""
    states: Tensor
    """(N, K, 14): what the judge's state probe perceives; 0 for unknown scenes."""
    points: Tensor
    """(N, K, 3, 2): where it perceives gripper, object and goal in the image; NaN for unknown scenes."""
    expected: Tensor
    """(N, K, 14): the states that the actions lead to, by the outcome model; 0 for unknown scenes."""
    scores: Tensor
    """(N, 2, D): the judge's scores, normalised."""

    def select(self, rows: Tensor | Sequence[int]) -> "DistillationClips":
        """The clips at `rows`."""
        return DistillationClips(**{name: value[rows] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> "DistillationClips":
        """The same on a device."""
        return DistillationClips(**{name: value.to(device) for name, value in vars(self).items()})


@torch.no_grad()
def read_clips(
    student: Student, eyes: Probe, videos: Tensor, instructions: Sequence[str], actions: Tensor, scores: Tensor
) -> DistillationClips:
    """Clips (B, T, 3, H, W), uint8 or in [0, 1], all of T frames, with normalised `scores` (B, 2, D) of the judge.

    `eyes` is the state probe that teaches the student's eyes.
    """
    device = student.device
    whole = pixels(videos.to(device))
    lengths = torch.full((len(whole),), whole.shape[1], device=device)
    sample = sample_frames(lengths, student.encoder_spec.frames)
    tasks = student.identify(whole[:, 0])
    rows = torch.arange(len(whole), device=device).unsqueeze(1)
    chosen = whole[rows, sample.indices]
    members = range(len(eyes.members)) if eyes.tasks else ()
    seen = [eyes.perceive(chosen, tasks.clamp(min=0), index) for index in members]
    known = (tasks >= 0).view(-1, 1, 1)
    states = torch.zeros(*sample.indices.shape, 14, device=device)
    points, expected = torch.full((*sample.indices.shape, 3, 2), torch.nan, device=device), states
    if seen:
        first = torch.stack([p.states for p in seen]).mean(0)[:, 0]
        found = student.expect(first, actions.to(device), sample, tasks)
        expected = states if found is None else torch.where(known, found, states)
        states = torch.where(known, torch.stack([p.states for p in seen]).mean(0), states)
        mean_points = torch.stack([p.points for p in seen]).mean(0)
        points = torch.where(known.unsqueeze(-1), mean_points, points)
    return DistillationClips(
        frames=(chosen * 255).round().byte(),
        tasks=tasks,
        rest=student.rest(whole, lengths, actions.to(device), sample, tasks),
        valid=sample.valid,
        motion=profile(whole, lengths),
        words=student.vocabulary.encode(instructions).to(device),
        states=states,
        points=points,
        expected=expected,
        scores=scores.to(device),
    )


def join_clips(parts: Sequence[DistillationClips], frames: int) -> DistillationClips:
    """Several reads as one, each padded to `frames` frames; on the CPU."""

    def pad(name: str, value: Tensor) -> Tensor:
        value = value.cpu()
        if name in ("tasks", "motion", "words", "scores"):
            return value
        missing = frames - value.shape[1]
        if name == "valid":
            return torch.cat([value, value.new_zeros(len(value), missing)], 1)
        return torch.cat([value, value[:, -1:].expand(-1, missing, *value.shape[2:])], 1)

    return DistillationClips(
        **{name: torch.cat([pad(name, getattr(part, name)) for part in parts]) for name in vars(parts[0])}
    )


def bench_clips(
    student: Student, eyes: Probe, bench: Bench, rows: Sequence[int], scores: np.ndarray
) -> DistillationClips:
    """The pairs `rows` of a bench, with the judge's normalised `scores` (N, 2, D), in their order."""
    parts, order = [], []
    for places, videos, actions in clips_of(bench, rows):
        texts = [bench.pairs[rows[place]].instruction for place in places]
        taught = torch.from_numpy(scores[places]).float()
        parts.append(read_clips(student, eyes, videos, texts, actions, taught))
        order += places
    return join_clips(parts, student.encoder_spec.frames).select(torch.tensor(np.argsort(order)))


class DistillationSets(Dataset[dict[str, Tensor]]):
    """Sets of clips, drawn by a plan; `grouped` tells rollouts of one prompt from single clips."""

    def __init__(self, clips: DistillationClips, plan: SetPlan, seed: int) -> None:
        self.clips, self.plan, self.seed = clips, plan, seed

    def __len__(self) -> int:
        return SETS

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        places, grouped = self.plan.draw(number, self.seed)
        return vars(self.clips.select(places)) | {"grouped": torch.tensor(float(grouped))}


def distillation_loss(student: Student, clips: DistillationClips, grouped: Tensor) -> dict[str, Tensor]:
    """The student's losses on N sets of G clips, (N * G) rows; `grouped` (N,) marks rollouts of one prompt.

    `loss` is the sum to minimise; the others are for curves. In training mode words are hidden and features dropped.
    """
    spec, sets, eyes = student.spec, len(grouped), student.eyes
    known = clips.tasks >= 0
    states = clips.rest.new_zeros(1, *clips.valid.shape, STATE_FEATURES)
    taught = clips.rest.new_zeros(())
    if known.any():
        seen, tasks = clips.select(known), clips.tasks[known]
        outputs = eyes(seen.frames.float() / 255, tasks, 0)
        parts = losses(outputs, seen.states, seen.points, eyes.scenes.forces[tasks])
        taught = torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum()
        given = "actions" in student.encoder_spec.inputs
        states[:, known] = student.features([eyes.interpret(outputs, tasks)], tasks, seen.expected if given else None)
    observation = Observation(states, clips.rest, clips.valid, clips.motion)
    predicted = student.predict(observation, clips.words, 0)
    weights = torch.tensor(student.reward.weights, device=predicted.device)
    shape = (sets, -1, *predicted.shape[1:])
    scoring, within = scoring_loss(
        predicted.view(shape), clips.scores.view(shape), weights, grouped, spec.loss.delta, spec.loss.within_group,
        spec.loss.faithful,
    )  # fmt: skip
    return {
        "loss": scoring + spec.perception_weight * taught,
        "scoring": scoring.detach(),
        "within_group": within.detach(),
        "perception": taught.detach(),
        "mae": (predicted - clips.scores).abs().mean().detach(),
    }
