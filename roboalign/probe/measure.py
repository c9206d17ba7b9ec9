"""metrics/probe.json: the probe's errors on test episodes, on true, reconstructed and generated frames.

The true state of a generated frame is unknown. Two measures are reported instead: the error against the true outcome of
the same actions, which includes the world model's error, and the disagreement of the probe's members on the same
frames, which estimates the probe's error if members err independently.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roboalign.probe.data import select_round_robin
from roboalign.probe.model import Probe
from roboalign.probe.probe_metrics import flag_metrics, mean_over_episodes, state_errors
from roboalign.probe.spec import ProbeMeasureSpec
from roboalign.store import Corpus
from roboalign.types import Episode, Float32, Json, UInt8


@dataclass(frozen=True)
class MeasuredClip:
    """A clip of a test episode. Its first frame is the context; the states of the others are measured."""

    __test__ = False
    """Tells pytest not to collect this class."""

    number: int
    """Number of the episode in the corpus."""
    start: int
    """First frame of the clip in the episode."""
    episode: Episode
    frames: int
    """Length of the clip, the context frame included."""

    @property
    def shown_frames(self) -> UInt8:
        """The recorded frames (T, H, W, 3)."""
        return self.episode.frames[self.start : self.start + self.frames]

    @property
    def state(self) -> Float32:
        """The recorded states (T, 14)."""
        assert self.episode.state is not None
        return self.episode.state[self.start : self.start + self.frames]

    @property
    def points(self) -> Float32:
        """The recorded keypoints (T, 6)."""
        assert self.episode.keypoints is not None
        return self.episode.keypoints[self.start : self.start + self.frames]


Generate = Callable[[UInt8, Float32, NDArray[np.bool_], NDArray[np.int64]], UInt8]
"""A world model: maps first frames (B, H, W, 3), actions (B, F, A), action masks (B, A) and seeds (B,) to predicted
frames (B, F, H, W, 3)."""

BATCH = 16
"""Number of clips generated at once."""

Medium = Callable[[Sequence[MeasuredClip]], list[UInt8]]
"""Renders clips as recorded, reconstructed or generated frames (T, H, W, 3) each; the first frame is recorded."""


def generate_clips(generate: Generate, clips: Sequence[MeasuredClip], corpus: Corpus, seed: int) -> list[UInt8]:
    """Generate clips (T, H, W, 3) by a world model from their first frames and recorded actions.

    The seed of clip i is `seed` + i.
    """
    result: list[UInt8] = []
    for start in range(0, len(clips), BATCH):
        part = clips[start : start + BATCH]
        futures = generate(
            np.stack([clip.shown_frames[0] for clip in part]),
            np.stack([corpus.actions(clip.number)[clip.start : clip.start + clip.frames - 1] for clip in part]),
            np.stack([corpus.action_mask(clip.number) for clip in part]),
            np.arange(start, start + len(part)) + seed,
        )
        result += [np.concatenate([clip.shown_frames[:1], future]) for clip, future in zip(part, futures, strict=True)]
    return result


def measured_clips(probe: Probe, corpus: Corpus, spec: ProbeMeasureSpec) -> list[MeasuredClip]:
    """The clips to measure: the beginning and the end of at most `spec.episodes` episodes.

    Episodes that the probe does not cover, or that are too short, are skipped.
    """
    clips = []
    for number in select_round_robin(corpus.infos, spec.episodes):
        info = corpus.infos[number]
        if not probe.covers(info.source, info.task) or info.length <= spec.frames:
            continue
        episode = corpus.read(number)
        for start in sorted({0, len(episode.frames) - 1 - spec.frames}):
            clips.append(MeasuredClip(number, start, episode, spec.frames + 1))
    return clips


@dataclass(frozen=True)
class ProbedClips:
    """The probe's predictions for each clip in one medium, without the first frame."""

    mean: list[Float32]
    """Mean states over the members, (T, 14) each."""
    members: list[Float32]
    """States by each member, (M, T, 14) each."""
    points: list[Float32]
    """Mean image coordinates over the members, (T, 6) each."""


def probe_clips(probe: Probe, clips: Sequence[MeasuredClip], frames: Sequence[UInt8]) -> ProbedClips:
    """Run the probe on the `frames` (T, H, W, 3) of each clip, those of one task together."""
    predicted: dict[int, tuple[Float32, Float32]] = {}
    for source, task in probe.tasks:
        rows = [row for row, clip in enumerate(clips) if (clip.episode.source, clip.episode.task) == (source, task)]
        if rows:
            states, points = probe.read_states(source, task, np.stack([frames[row] for row in rows]))
            predicted |= {row: (states[:, index, 1:], points[:, index, 1:]) for index, row in enumerate(rows)}
    order = range(len(clips))
    return ProbedClips(
        [predicted[row][0].mean(0) for row in order],
        [predicted[row][0] for row in order],
        [predicted[row][1].mean(0) for row in order],
    )


def measure(
    probe: Probe, clips: Sequence[MeasuredClip], media: Mapping[str, Medium], spec: ProbeMeasureSpec
) -> dict[str, Json]:
    """The content of the metrics file; without clips (no source has states), `n` is 0 and there are no errors.

    Args:
        probe: The probe.
        clips: The clips.
        media: The kinds of frames by name; `generated` has no true states.
        spec: Draws and seed of the intervals.
    """
    covered = sorted({source for source, _ in probe.tasks})
    result: dict[str, Json] = {
        "sources": covered,
        "n": len({clip.episode.id for clip in clips}),
        "members": len(probe.members),
        "parameters": sum(parameter.numel() for parameter in probe.parameters()),
        "frames": spec.frames,
    }
    if not clips:
        return result
    probed = {name: probe_clips(probe, clips, medium(clips)) for name, medium in media.items()}
    result |= clip_metrics(probe, clips, probed, range(len(clips)), spec)
    by_source: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        by_source.setdefault(clip.episode.source, []).append(row)
    result["by_source"] = {
        source: clip_metrics(probe, clips, probed, rows, spec) for source, rows in sorted(by_source.items())
    }
    return result


def clip_metrics(
    probe: Probe,
    clips: Sequence[MeasuredClip],
    probed: Mapping[str, ProbedClips],
    rows: Sequence[int],
    spec: ProbeMeasureSpec,
) -> dict[str, Json]:
    """The metrics of the clips `rows`: in each medium, and of baselines that do not use the frames.

    Args:
        probe: The probe.
        clips: All clips.
        probed: The probe's predictions for all clips, by medium.
        rows: Indices of the clips that are measured.
        spec: Draws and seed of the intervals.
    """
    episodes = [clips[row].episode.id for row in rows]
    truth = [clips[row].state[1:] for row in rows]

    def errors(states: Sequence[Float32]) -> dict[str, Json]:
        means = mean_over_episodes(
            [state_errors(a, b) for a, b in zip(states, truth, strict=True)], episodes, spec.draws, spec.seed
        )
        return means | flag_metrics(states, truth, episodes, spec.draws, spec.seed)

    result: dict[str, Json] = {"n": len(set(episodes))}
    for name, predictions in probed.items():
        metrics = errors([predictions.mean[row] for row in rows])
        if name == "generated":
            metrics = {"from_true_outcome": metrics}
        else:
            pixels = [pixel_errors(predictions.points[row], clips[row]) for row in rows]
            metrics["pixels"] = mean_over_episodes(pixels, episodes, spec.draws, spec.seed)
        if len(probe.members) > 1:
            differences = [state_errors(*predictions.members[row][:2]) for row in rows]
            metrics["disagreement"] = mean_over_episodes(differences, episodes, spec.draws, spec.seed)
        result[name] = metrics
    mean = probe.scenes.means.cpu().numpy()
    tasks = [probe.tasks.index((clips[row].episode.source, clips[row].episode.task)) for row in rows]
    result["baselines"] = {
        "mean_state": errors([np.broadcast_to(mean[task], t.shape) for task, t in zip(tasks, truth, strict=True)]),
        "first_state": errors(
            [np.broadcast_to(clips[row].state[:1], t.shape) for row, t in zip(rows, truth, strict=True)]
        ),
    }
    return result


def pixel_errors(points: Float32, clip: MeasuredClip) -> dict[str, float]:
    """Mean distance in pixels of predicted image coordinates (T, 6) from the recorded ones, for each keypoint.

    The mean is over the frames in which the keypoint is inside the image, or over all frames if it never is.
    """
    height, width = clip.shown_frames.shape[1:3]
    truth = clip.points[1:].reshape(-1, 3, 2)
    distances = np.linalg.norm((points.reshape(-1, 3, 2) - truth) * (width, height), axis=-1)
    inside = np.asarray(((truth > 0) & (truth < 1)).all(-1))
    return {
        name: float(distances[inside[:, k], k].mean() if inside[:, k].any() else distances[:, k].mean())
        for k, name in enumerate(("gripper", "object", "goal"))
    }
