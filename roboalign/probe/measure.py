"""metrics/probe.json: the probe's errors on test episodes; on true, reconstructed and generated frames.

The true state of a generated frame is unknown. Two figures are reported instead: the distance of the perceived states
from the true outcome of the same actions (the error of the world model and of the probe, together), and the
disagreement of the probe's members on the same frames (the error of the probe alone, if members err independently).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roboalign.probe.data import take_in_turn
from roboalign.probe.model import Probe
from roboalign.probe.probe_metrics import flag_metrics, mean_over_episodes, state_errors
from roboalign.probe.spec import ProbeMeasureSpec
from roboalign.store import Corpus
from roboalign.types import Episode, Float32, Json, UInt8


@dataclass(frozen=True)
class MeasuredClip:
    """A stretch of a test episode: its first frame and `frames - 1` later ones, of which the state is measured."""

    __test__ = False
    """No test of pytest's, in spite of its name."""

    number: int
    """Of its episode in the corpus."""
    start: int
    episode: Episode
    frames: int

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
"""A world model: first frames (B, H, W, 3), actions (B, F, A), action masks (B, A) and seeds (B,) to the predicted
frames (B, F, H, W, 3)."""

BATCH = 16
"""Clips generated at once."""

Medium = Callable[[Sequence[MeasuredClip]], list[UInt8]]
"""Clips to their frames as they come through some medium, each (T, H, W, 3), the first one as it was recorded."""


def generate_clips(generate: Generate, clips: Sequence[MeasuredClip], corpus: Corpus, seed: int) -> list[UInt8]:
    """The clips as a world model continues their first frame under their recorded actions, BATCH at a time."""
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
    """The clips to measure: the beginning and the end of at most `spec.episodes` episodes, the tasks in turn; of those
    the ones that the probe covers and that are long enough."""
    clips = []
    for number in take_in_turn(corpus.infos, spec.episodes):
        info = corpus.infos[number]
        if not probe.covers(info.source, info.task) or info.length <= spec.frames:
            continue
        episode = corpus.read(number)
        for start in sorted({0, len(episode.frames) - 1 - spec.frames}):
            clips.append(MeasuredClip(number, start, episode, spec.frames + 1))
    return clips


@dataclass(frozen=True)
class Readings:
    """Predicted states of each clip in one medium, without the first frame."""

    said: list[Float32]
    """The probe's states, (T, 14) each."""
    members: list[Float32]
    """Each member's states, (M, T, 14) each."""
    points: list[Float32]
    """Points in the picture by the mean of the members, (T, 6) each."""


def read(probe: Probe, clips: Sequence[MeasuredClip], frames: Sequence[UInt8]) -> Readings:
    """Probe the clips, those of one task together."""
    said: dict[int, tuple[Float32, Float32]] = {}
    for source, task in probe.tasks:
        rows = [row for row, clip in enumerate(clips) if (clip.episode.source, clip.episode.task) == (source, task)]
        if rows:
            states, points = probe.read_states(source, task, np.stack([frames[row] for row in rows]))
            said |= {row: (states[:, place, 1:], points[:, place, 1:]) for place, row in enumerate(rows)}
    order = range(len(clips))
    return Readings(
        [said[row][0].mean(0) for row in order],
        [said[row][0] for row in order],
        [said[row][1].mean(0) for row in order],
    )


def measure(
    probe: Probe, clips: Sequence[MeasuredClip], media: Mapping[str, Medium], spec: ProbeMeasureSpec
) -> dict[str, Json]:
    """The metrics file. Without clips (no source has states) it says so: n is 0, and no error is given."""
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
    readings = {name: read(probe, clips, medium(clips)) for name, medium in media.items()}
    sources = [clip.episode.source for clip in clips]
    result |= section(probe, clips, readings, list(range(len(clips))), spec)
    result["by_source"] = {
        source: section(probe, clips, readings, [row for row, own in enumerate(sources) if own == source], spec)
        for source in sorted(set(sources))
    }
    return result


def section(
    probe: Probe,
    clips: Sequence[MeasuredClip],
    readings: Mapping[str, Readings],
    rows: Sequence[int],
    spec: ProbeMeasureSpec,
) -> dict[str, Json]:
    """The figures of the clips `rows`: of each medium, and of answers that look at no frame."""
    episodes = [clips[row].episode.id for row in rows]
    truth = [clips[row].state[1:] for row in rows]

    def against(said: Sequence[Float32]) -> dict[str, Json]:
        found = mean_over_episodes(
            [state_errors(a, b) for a, b in zip(said, truth, strict=True)], episodes, spec.draws, spec.seed
        )
        return found | flag_metrics(said, truth, episodes, spec.draws, spec.seed)

    result: dict[str, Json] = {"n": len(set(episodes))}
    for name, reading in readings.items():
        figures = against([reading.said[row] for row in rows])
        if name == "generated":
            figures = {"from_true_outcome": figures}
        else:
            pixels = [pixel_errors(reading.points[row], clips[row]) for row in rows]
            figures["pixels"] = mean_over_episodes(pixels, episodes, spec.draws, spec.seed)
        if len(probe.members) > 1:
            apart = [state_errors(*reading.members[row][:2]) for row in rows]
            figures["disagreement"] = mean_over_episodes(apart, episodes, spec.draws, spec.seed)
        result[name] = figures
    mean = probe.scenes.means.cpu().numpy()
    tasks = [probe.tasks.index((clips[row].episode.source, clips[row].episode.task)) for row in rows]
    result["baselines"] = {
        "mean_state": against([np.broadcast_to(mean[task], t.shape) for task, t in zip(tasks, truth, strict=True)]),
        "first_state": against(
            [np.broadcast_to(clips[row].state[:1], t.shape) for row, t in zip(rows, truth, strict=True)]
        ),
    }
    return result


def pixel_errors(points: Float32, clip: MeasuredClip) -> dict[str, float]:
    """The distance in pixels of points (T, 6) in the picture from the recorded ones, the mean over the frames in which
    a point lies within the picture (over all, where it never does)."""
    height, width = clip.shown_frames.shape[1:3]
    truth = clip.points[1:].reshape(-1, 3, 2)
    far = np.linalg.norm((points.reshape(-1, 3, 2) - truth) * (width, height), axis=-1)
    inside = np.asarray(((truth > 0) & (truth < 1)).all(-1))
    return {
        name: float(far[inside[:, k], k].mean() if inside[:, k].any() else far[:, k].mean())
        for k, name in enumerate(("gripper", "object", "goal"))
    }
