"""The outputs of the rollout stage: clip stores with their index, metrics, curves, timings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from roboalign.io import write_json
from roboalign.rollout.evaluation_episodes import EvaluationEpisodes, write_clips
from roboalign.rollout.rollout import StoredRollout
from roboalign.rollout.suite import RolloutSet
from roboalign.rollout.video_metrics import (
    Distance,
    Floats,
    SetDistance,
    metric_curve,
    paired_differences,
    summarize,
    summarize_temporal,
    temporal_metrics,
    video_metrics,
)
from roboalign.types import Json
from roboalign.video import concatenate_videos

FPS = 10.0
"""Playback rate of clips. Sources have different rates, but the report shows their clips side by side."""


@dataclass
class Results:
    """Collects sets of rollouts of the same episodes."""

    folder: Path
    """The folder of the clip stores and of `index.json`."""
    episodes: EvaluationEpisodes
    distance: Distance
    every: int
    """Frame stride of SSIM and the perceptual distances."""
    batch_size: int
    set_distance: SetDistance | None = None
    """The distance of a set of clips to the set of true clips, its reference."""
    metrics: dict[str, Json] = field(default_factory=dict)
    curves: list[dict[str, object]] = field(default_factory=list)
    timings: dict[str, Json] = field(default_factory=dict)
    index: list[dict[str, Json]] = field(default_factory=list)
    _by_set: dict[str, dict[str, Floats]] = field(default_factory=dict)
    _truth: dict[str, Floats] = field(init=False)

    def __post_init__(self) -> None:
        self._truth = temporal_metrics(self.episodes.frames, self.batch_size, self.episodes.device)
        found = summarize_temporal(self._truth, self._truth)
        self.metrics["ground_truth"] = {name: found[name] for name in ("flicker", "repeated_frames")} | {
            "n": len(self.episodes)
        }

    def add(
        self,
        rollout_set: RolloutSet,
        rollout: StoredRollout,
        more: tuple[EvaluationEpisodes, StoredRollout] | None = None,
    ) -> Tensor:
        """A set of rollouts: clips, metrics, differences to plain autoregression (which comes first), timings.

        The clips of `more`, rollouts of other scenes, are stored behind them and not measured. Returns the frames of
        all clips.
        """
        frames, episodes = rollout.frames, self.episodes
        if more is not None:
            frames, episodes = concatenate_videos([frames, more[1].frames], episodes.folder), episodes.join(more[0])
        name, base = rollout_set.name, rollout_set.base
        self.keep(name, [frames], rollout_set.model, rollout_set.decoding, rollout_set.sampling, episodes)
        self.measure(name, rollout, base, perceptual=True)
        return frames

    def keep(
        self,
        name: str,
        videos: Sequence[Tensor],
        model: str = "",
        decoding: str = "",
        sampling: str = "",
        episodes: EvaluationEpisodes | None = None,
    ) -> None:
        """Store clips under `name`: one or more samples (N, T, 3, H, W), uint8, of every episode, or of those given."""
        listed = write_clips(self.folder / name, episodes or self.episodes, videos, FPS)
        self.index.append(
            {"name": name, "model": model, "decoding": decoding, "sampling": sampling, "folder": name} | listed
        )

    def measure(self, name: str, rollout: StoredRollout, base: str, *, perceptual: bool = False) -> None:
        """Metrics of rollouts; their clips need not be kept."""
        self.compare(name, rollout.frames, perceptual=perceptual)
        self.metrics[name] |= {
            "peak_sequence": rollout.peak_sequence,
            "cache_bytes": rollout.cache_bytes,
        }
        if base != name and base in self._by_set:
            self.metrics[name]["less_ar"] = paired_differences(self._by_set[name], self._by_set[base])
        seconds = rollout.seconds_per_frame
        self.timings[name] = {
            "seconds": sum(seconds) / len(self.episodes),
            "frames_per_second": len(self.episodes) * len(seconds) / sum(seconds),
            "seconds_per_frame": [value / len(self.episodes) for value in seconds],
        }

    def compare(self, name: str, video: Tensor, *, perceptual: bool = True) -> None:
        """Video metrics of frames (N, 1 + F, 3, H, W), uint8, against the truth."""
        device = self.episodes.device
        distance, set_distance = (self.distance, self.set_distance) if perceptual else (None, None)
        truth, batch = self.episodes.frames, self.batch_size
        values = video_metrics(video, truth, distance, self.every, batch, set_distance, device)
        self._by_set[name] = values
        self.metrics[name] = {
            **summarize(values),
            **summarize_temporal(temporal_metrics(video, batch, device), self._truth),
            **({} if set_distance is None else set_distance.compute()),
            "n": len(self.episodes),
        }
        self.curves += metric_curve(name, values, self.every)

    def summary(self) -> Json:
        """The figures of metrics/rollout.json: the metrics of each set, and what they were measured with."""
        names = {"perceptual_name": self.distance.name}
        if self.set_distance is not None:
            names["frechet_name"] = self.set_distance.name
        return self.metrics | {"episodes": len(self.episodes), "horizon": self.episodes.prompt.horizon} | names

    def write_index(self) -> None:
        """Write `index.json`, which lists the clip stores in the order in which they were rolled out."""
        write_json(self.folder / "index.json", self.index)
