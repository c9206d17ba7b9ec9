"""The labels of pairs: what they are read off, and the annotations that replace them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.annotations import Annotation, average
from roboalign.bench.labels import Label, Provenance, Scores, Track, label_degraded, label_recorded
from roboalign.bench.pairs import Pair
from roboalign.bench.probed import ProbeCalibration, ProbeFn, TrueClip, calibrate_probe
from roboalign.bench.recipes import is_success
from roboalign.bench.spec import BenchSpec, DegradationSpec
from roboalign.probe.camera import fit_camera
from roboalign.reward.rubric import Limits, calibrate
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus, EpisodeInfo
from roboalign.types import Float32, Split, UInt8

MEASURED: tuple[Provenance, ...] = ("rubric", "rubric_rearranged", "rubric_moved", "rubric_swapped", "rubric_declared",
                                    "rubric_probed", "rubric_probed_group")  # fmt: skip
"""Labels that rest on recorded or probed states."""

TAUGHT, UNSEEN = 4, 6
"""Training and validation episodes of each task that the probe reads, to see whether it sees anything."""


def recorded_states(corpus: Corpus) -> dict[str, Float32 | None]:
    """The states (T, 14) of each episode by id; None where the source has none."""
    return {info.id: None if info.success is None else corpus.state(number) for number, info in enumerate(corpus.infos)}


def all_limits(
    infos: Sequence[EpisodeInfo], states: Mapping[str, Float32 | None], spec: RewardSpec
) -> dict[str, Limits]:
    """The rubric's limits of every source whose training episodes have states."""
    recorded: dict[str, list[tuple[Float32, bool]]] = {}
    for info in infos:
        state = states[info.id]
        if info.split == "train" and state is not None:
            recorded.setdefault(info.source, []).append((state, is_success(info)))
    return {source: calibrate(values, spec.calibration) for source, values in recorded.items()}


@dataclass(frozen=True)
class Labels:
    """Labels pairs of a corpus."""

    corpus: Corpus
    spec: BenchSpec
    reward: RewardSpec
    states: Mapping[str, Float32 | None]
    limits: Mapping[str, Limits]
    probe: ProbeFn | None = None
    """Sees the states that generated clips show; without one, they are labelled by their distance."""
    annotations: Sequence[Annotation] = field(default=())
    """Labels by people and vision-language models."""
    reconstruct: Callable[[UInt8], UInt8] | None = None
    """The tokenizer: a clip (T, H, W, 3) as it gives it back, its first frame as it was."""
    measured_looks: Mapping[str, ProbeCalibration] | None = None
    """What `looks` is, where it was measured before."""
    probed_tasks: frozenset[tuple[str, str]] | None = None
    """Source and task of what the probe covers, which may lack tasks with few episodes; None for all."""

    def covers(self, info: EpisodeInfo) -> bool:
        """Whether the probe can be asked about clips of an episode's task."""
        return self.probed_tasks is None or (info.source, info.task) in self.probed_tasks

    @cached_property
    def infos(self) -> tuple[EpisodeInfo, ...]:
        """What is known of each episode."""
        return self.corpus.infos

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each episode by id."""
        return {info.id: number for number, info in enumerate(self.infos)}

    @cached_property
    def keypoints(self) -> dict[str, Float32 | None]:
        """The keypoints (T, 6) of each episode by id; None where it has none."""
        return {info.id: self.corpus.keypoints(number) for number, info in enumerate(self.infos)}

    @cached_property
    def cameras(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """The camera (3, 4) of each source's task, from its training episodes, where these determine one."""
        points: dict[tuple[str, str], list[tuple[Float32, Float32]]] = {}
        for info in self.infos:
            state, keypoints = self.states[info.id], self.keypoints[info.id]
            if info.split == "train" and state is not None and keypoints is not None:
                points.setdefault((info.source, info.task), []).append((state[:, :9], keypoints))
        result: dict[tuple[str, str], NDArray[np.float64]] = {}
        for key, pairs in points.items():
            world = np.concatenate([each for each, _ in pairs]).reshape(-1, 3).astype(np.float64)
            picture = np.concatenate([each for _, each in pairs]).reshape(-1, 2).astype(np.float64)
            try:
                result[key] = fit_camera(world, picture)
            except ValueError:
                continue  # no camera: teleported objects of this task keep the declared losses
        return result

    @cached_property
    def sights(self) -> dict[str, ProbeCalibration]:
        """How the probe sees each source that has states: by its validation episodes, or, where none of them is long
        enough, by some of those it was trained on. Sources that it sees too little of are left out."""
        return {name: own for name, own in self.looks.items() if own.share >= self.spec.generated.trust}

    @cached_property
    def looks(self) -> dict[str, ProbeCalibration]:
        """`sights`, those of which it sees too little among them."""
        if self.measured_looks is not None:
            return dict(self.measured_looks)
        if self.probe is None:
            return {}
        result: dict[str, ProbeCalibration] = {}
        for source, limits in self.limits.items():
            own = [
                info
                for info in self.infos
                if info.source == source and self.states[info.id] is not None and self.covers(info)
            ]
            unseen, taught = self._some(own, "validation", UNSEEN), self._some(own, "train", TAUGHT)
            clips, known = ([clip for info in some for clip in self._true_clips(info)] for some in (unseen, taught))
            if clips or known:
                quantile = self.spec.generated.probe_quantile
                result[source] = calibrate_probe(self.reward, clips or known, known, limits, quantile)
        return result

    @staticmethod
    def _some(infos: Sequence[EpisodeInfo], split: Split, count: int) -> list[EpisodeInfo]:
        """The first `count` episodes of each task that are of a split."""
        tasks: dict[str, list[EpisodeInfo]] = {}
        for info in infos:
            if info.split == split:
                tasks.setdefault(info.task, []).append(info)
        return [info for own in tasks.values() for info in own[:count]]

    def _true_clips(self, info: EpisodeInfo) -> list[TrueClip]:
        """An episode's stretches of the length of generated clips, one after the other, as the probe sees them."""
        state, length = self.states[info.id], self.spec.generated.frames + 1
        assert self.probe is not None
        if state is None or info.length < length:
            return []
        starts = range(0, info.length - length + 1, max(1, length // 2))
        frames = self.corpus.frames(self.numbers[info.id])
        clips = [frames[start : start + length] for start in starts]
        seen = self.probe(info.source, info.task, np.stack(clips))
        again: list[Float32 | None] = [None] * len(clips)
        if self.reconstruct is not None:
            again = [*self.probe(info.source, info.task, np.stack([self.reconstruct(clip) for clip in clips]))]
        return [
            TrueClip(info.task, one, other, state[start : start + length], is_success(info))
            for start, one, other in zip(starts, seen, again, strict=True)
        ]

    def state(self, episode: str, start: int, stop: int | None) -> Float32 | None:
        """Some frames' recorded states (T, 14)."""
        state = self.states[episode]
        return None if state is None else state[start:stop]

    def track(self, pair: Pair) -> Track:
        """What is recorded of a pair's clip."""
        info, points = self.infos[self.numbers[pair.episode]], self.keypoints[pair.episode]
        span = (pair.start, pair.stop) if pair.degradation == "swapped_actions" else (0, None)
        return Track(
            state=self.state(pair.episode, pair.start, pair.stop),
            keypoints=None if points is None else points[pair.start : pair.stop],
            camera=self.cameras.get((info.source, info.task)) if pair.degradation == "object_teleported" else None,
            other=self.state(pair.other, *span) if pair.other else None,
        )

    def whole_track(self, info: EpisodeInfo) -> Track:
        """What is recorded of a whole episode."""
        return Track(self.states[info.id], self.keypoints[info.id], self.cameras.get((info.source, info.task)))

    def degradation(self, pair: Pair) -> DegradationSpec:
        """The spec of a degraded pair's degradation."""
        return next(each for each in self.spec.degradations if each.kind == pair.degradation)

    def label(self, pair: Pair) -> Pair:
        """A recorded or degraded pair with scores and their provenance."""
        limits = self.limits.get(pair.source)
        if pair.origin != "degraded":
            return self.with_label(
                pair, label_recorded(self.reward, self.state(pair.episode, pair.start, pair.stop), limits)
            )
        degradation, track = self.degradation(pair), self.track(pair)
        return self.with_label(pair, label_degraded(self.reward, degradation, pair.severity, pair.seed, track, limits))

    def with_label(self, pair: Pair, label: Label) -> Pair:
        """The pair with its label, scores to six digits."""
        return replace(
            pair, scores=_digits(label.scores), faithful=_digits(label.faithful), provenance=label.provenance
        )

    def apply_annotations(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs with the labels of annotations, where the spec wants these to replace theirs; the spec says what
        becomes of those that nobody labelled. Annotations are absolute scores: faithful ones stay as they are."""
        means = average(self.annotations, self.reward.names)
        result: list[Pair] = []
        for pair in pairs:
            if pair.id in means and (self.spec.annotated == "all" or pair.provenance not in MEASURED):
                scores, kind, _ = means[pair.id]
                provenance: Provenance = "people" if kind == "person" else "vlm"
                result.append(replace(pair, scores=_digits(scores), provenance=provenance))
            elif self.spec.unlabelled != "annotations" or self.states[pair.episode] is not None:
                result.append(pair)
        return result


def _digits(scores: Scores) -> tuple[float, ...]:
    """Scores to six digits."""
    return tuple(float(f"{score:.6g}") for score in scores)
