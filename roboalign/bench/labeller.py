"""Labelling the pairs of a corpus: recorded, degraded and generated clips, and the annotations that replace labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.annotations import Annotation, average
from roboalign.bench.labels import (
    Label,
    ProbeCalibration,
    ProbedClip,
    Provenance,
    RecordedStates,
    Scores,
    calibrate_probe,
    distance_from_truth,
    label_by_distance,
    label_by_probe,
    label_degraded,
    label_group_rollout,
    label_recorded,
    probed_change,
)
from roboalign.bench.pairs import Pair, pair_id
from roboalign.bench.recipes import is_success
from roboalign.bench.spec import BenchSpec
from roboalign.probe.camera import fit_camera
from roboalign.reward.rubric import Limits, calibrate
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus, EpisodeInfo
from roboalign.types import Float32, Split, UInt8

FROM_STATES: tuple[Provenance, ...] = ("rubric", "rubric_rearranged", "rubric_moved", "rubric_swapped",
                                       "rubric_declared", "rubric_probed", "rubric_probed_group")  # fmt: skip
"""Provenances of labels that rest on recorded or probed states."""

UNSEEN_EPISODES, TRAINING_EPISODES = 6, 4
"""Validation and training episodes of each task on which a probe is calibrated."""


class ProbeFn(Protocol):
    """A state probe."""

    def __call__(self, source: str, task: str, frames: UInt8) -> Float32:
        """The states (N, T, 14), columns STATE_NAMES, perceived in clips (N, T, H, W, 3) of a source's task."""
        ...


@dataclass(frozen=True)
class PairLabeller:
    """Labels pairs of a corpus by one state probe; see `PairLabeller.of`."""

    corpus: Corpus
    spec: BenchSpec
    reward: RewardSpec
    states: Mapping[str, Float32 | None]
    """States (T, 14) of each episode by id; None if the source has none."""
    limits: Mapping[str, Limits]
    """The rubric's limits of each source whose training episodes have states."""
    probe: ProbeFn | None = None
    """Perceives the states of generated clips; without one, they are labelled by their distance."""
    probed_tasks: frozenset[tuple[str, str]] | None = None
    """(source, task) that the probe covers; None for all."""
    reconstruct: Callable[[UInt8], UInt8] | None = None
    """The tokenizer's reconstruction of a clip (T, H, W, 3); the first frame is unchanged."""
    annotations: Sequence[Annotation] = ()
    """Labels by people and vision-language models."""
    measured_calibrations: Mapping[str, ProbeCalibration] | None = None
    """`probe_calibrations`, if they were measured before."""
    fitted_cameras: Mapping[tuple[str, str], NDArray[np.float64]] | None = None
    """`cameras`, if they were fitted before, to more episodes than the corpus has."""

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        spec: BenchSpec,
        reward: RewardSpec,
        probe: ProbeFn | None = None,
        probed_tasks: frozenset[tuple[str, str]] | None = None,
        reconstruct: Callable[[UInt8], UInt8] | None = None,
        annotations: Sequence[Annotation] = (),
    ) -> Self:
        """The labeller of a corpus, its states read and the rubric's limits calibrated on its training episodes."""
        states: dict[str, Float32 | None] = {}
        training: dict[str, list[tuple[Float32, bool]]] = {}
        for number, info in enumerate(corpus.infos):
            states[info.id] = state = None if info.success is None else corpus.state(number)
            if info.split == "train" and state is not None:
                training.setdefault(info.source, []).append((state, is_success(info)))
        limits = {source: calibrate(episodes, reward.calibration) for source, episodes in training.items()}
        return cls(corpus, spec, reward, states, limits, probe, probed_tasks, reconstruct, annotations)

    def without_models(self) -> Self:
        """The labeller as it is sent to another process: without models, with the probe's calibrations."""
        return replace(self, probe=None, reconstruct=None, measured_calibrations=self.probe_calibrations)

    @cached_property
    def infos(self) -> tuple[EpisodeInfo, ...]:
        """Metadata of each episode."""
        return self.corpus.infos

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Index of each episode by id."""
        return {info.id: number for number, info in enumerate(self.infos)}

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The sources of the bench's pairs."""
        if self.spec.unlabelled != "skip":
            return self.corpus.sources
        return tuple(source for source in self.corpus.sources if source in self.limits)

    @cached_property
    def keypoints(self) -> dict[str, Float32 | None]:
        """Keypoints (T, 6) of each episode by id; None if it has none."""
        return {info.id: self.corpus.keypoints(number) for number, info in enumerate(self.infos)}

    @cached_property
    def cameras(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Camera matrix (3, 4) by (source, task), fitted to the training episodes if these determine one."""
        if self.fitted_cameras is not None:
            return dict(self.fitted_cameras)
        points: dict[tuple[str, str], list[tuple[Float32, Float32]]] = {}
        for info in self.infos:
            state, keypoints = self.states[info.id], self.keypoints[info.id]
            if info.split == "train" and state is not None and keypoints is not None:
                points.setdefault((info.source, info.task), []).append((state[:, :9], keypoints))
        result: dict[tuple[str, str], NDArray[np.float64]] = {}
        for key, episodes in points.items():
            world = np.concatenate([positions for positions, _ in episodes]).reshape(-1, 3).astype(np.float64)
            image = np.concatenate([keypoints for _, keypoints in episodes]).reshape(-1, 2).astype(np.float64)
            try:
                result[key] = fit_camera(world, image)
            except ValueError:
                continue  # without a camera, teleported objects of this task keep the declared losses
        return result

    @cached_property
    def probe_calibrations(self) -> dict[str, ProbeCalibration]:
        """Calibration of the probe on each source with states: on validation episodes, or on training episodes if no
        validation episode is long enough."""
        if self.measured_calibrations is not None:
            return dict(self.measured_calibrations)
        if self.probe is None:
            return {}
        result: dict[str, ProbeCalibration] = {}
        for source, limits in self.limits.items():
            infos = [
                info
                for info in self.infos
                if info.source == source and self.states[info.id] is not None and self.covers(info)
            ]
            unseen = self._probed_clips(self.probe, infos, "validation", UNSEEN_EPISODES)
            trained = self._probed_clips(self.probe, infos, "train", TRAINING_EPISODES)
            if unseen or trained:
                quantile = self.spec.generated.probe_quantile
                result[source] = calibrate_probe(self.reward, unseen or trained, trained, limits, quantile)
        return result

    @cached_property
    def trusted_calibrations(self) -> dict[str, ProbeCalibration]:
        """`probe_calibrations` of the sources that the probe covers well enough to label generated clips."""
        least = self.spec.generated.min_explained_variance
        return {source: own for source, own in self.probe_calibrations.items() if own.explained_variance >= least}

    def covers(self, info: EpisodeInfo) -> bool:
        """Whether the probe covers the task of an episode."""
        return self.probed_tasks is None or (info.source, info.task) in self.probed_tasks

    def _probed_clips(
        self, probe: ProbeFn, infos: Sequence[EpisodeInfo], split: Split, episodes: int
    ) -> list[ProbedClip]:
        """Half-overlapping clips, of the length of generated ones, of the first `episodes` of each task in a split."""
        length = self.spec.generated.frames + 1
        tasks: dict[str, list[EpisodeInfo]] = {}
        for info in infos:
            if info.split == split:
                tasks.setdefault(info.task, []).append(info)
        result: list[ProbedClip] = []
        for info in (info for own in tasks.values() for info in own[:episodes] if info.length >= length):
            state = self.states[info.id]
            assert state is not None
            starts = range(0, info.length - length + 1, max(1, length // 2))
            frames = self.corpus.frames(self.numbers[info.id])
            clips = [frames[start : start + length] for start in starts]
            probed = probe(info.source, info.task, np.stack(clips))
            reconstructed: list[Float32 | None] = [None] * len(clips)
            if self.reconstruct is not None:
                reconstructed = [*probe(info.source, info.task, np.stack([self.reconstruct(clip) for clip in clips]))]
            result += [
                ProbedClip(info.task, probed[row], reconstructed[row], state[start : start + length], is_success(info))
                for row, start in enumerate(starts)
            ]
        return result

    def recorded_states(self, info: EpisodeInfo) -> RecordedStates:
        """The records of a whole episode."""
        return RecordedStates(self.states[info.id], self.keypoints[info.id], self.cameras.get((info.source, info.task)))

    def with_id(self, pair: Pair) -> Pair:
        """The pair of a recorded clip with its id."""
        return replace(pair, id=pair_id(pair, self.infos[self.numbers[pair.episode]].scene))

    def label(self, pair: Pair) -> Pair:
        """A recorded or degraded pair with its id, scores and provenance."""
        state, limits = self._state(pair.episode, pair.start, pair.stop), self.limits.get(pair.source)
        if pair.origin != "degraded":
            return _with_label(self.with_id(pair), label_recorded(self.reward, state, limits))
        degradation = next(each for each in self.spec.degradations if each.kind == pair.degradation)
        info, keypoints = self.infos[self.numbers[pair.episode]], self.keypoints[pair.episode]
        frames = (pair.start, pair.stop) if pair.degradation == "swapped_actions" else (0, None)
        recorded = RecordedStates(
            state=state,
            keypoints=None if keypoints is None else keypoints[pair.start : pair.stop],
            camera=self.cameras.get((info.source, info.task)) if pair.degradation == "object_teleported" else None,
            other_state=self._state(pair.other, *frames) if pair.other else None,
        )
        label = label_degraded(self.reward, degradation, pair.severity, pair.seed, recorded, limits)
        return _with_label(self.with_id(pair), label)

    def _state(self, episode: str, start: int, stop: int | None) -> Float32 | None:
        """Recorded states (T, 14) of some frames of an episode."""
        state = self.states[episode]
        return None if state is None else state[start:stop]

    def label_generated(self, recipes: Sequence[Pair], clips: Sequence[UInt8], futures: Sequence[UInt8]) -> list[Pair]:
        """Recipes of generated clips with scores: by the probe if it covers the source, otherwise by the distance.

        `clips` are the generated clips and `futures` the true clips of the same actions, (T, H, W, 3) each.
        """
        reward, rule = self.reward, self.spec.generated
        probed = self._probe_generated(recipes, clips, futures)
        result: list[Pair] = []
        for row, pair in enumerate(recipes):
            state, limits = self._state(pair.episode, pair.start, pair.stop), self.limits.get(pair.source)
            distance = distance_from_truth(clips[row], futures[row], rule.distance_eps)
            label = label_by_distance(reward, rule, distance, state, limits)
            if row in probed and state is not None and limits is not None:
                calibration = self.trusted_calibrations[pair.source]
                change = probed_change(reward, *probed[row], calibration)
                if pair.origin == "group":
                    label = label_group_rollout(reward, change, state, limits)
                else:
                    label = label_by_probe(reward, rule, change, state, limits, calibration, label)
            result.append(_with_label(pair, label))
        return result

    def _probe_generated(
        self, recipes: Sequence[Pair], clips: Sequence[UInt8], futures: Sequence[UInt8]
    ) -> dict[int, tuple[Float32, Float32]]:
        """By row, the states (T, 14) that the probe perceives in the clip and in its true future, if it covers them."""
        if self.probe is None:
            return {}
        tasks: dict[tuple[str, str], list[int]] = {}
        for row, pair in enumerate(recipes):
            info = self.infos[self.numbers[pair.episode]]
            if pair.source in self.trusted_calibrations and self.covers(info):
                tasks.setdefault((pair.source, info.task), []).append(row)
        result: dict[int, tuple[Float32, Float32]] = {}
        for (source, task), rows in tasks.items():
            # The rollouts of a group share their true future: it is probed once.
            prompts = {row: (recipes[row].episode, recipes[row].start, recipes[row].stop) for row in rows}
            distinct = {prompts[row]: futures[row] for row in rows}
            places = {prompt: len(rows) + place for place, prompt in enumerate(distinct)}
            states = self.probe(source, task, np.stack([*(clips[row] for row in rows), *distinct.values()]))
            for place, row in enumerate(rows):
                result[row] = states[place], states[places[prompts[row]]]
        return result

    def apply_annotations(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs with the labels of annotations, if the spec lets these replace theirs, and without the pairs that
        the spec keeps only if they are annotated. Annotations are absolute scores: faithful scores do not change."""
        means = average(self.annotations, self.reward.names)
        result: list[Pair] = []
        for pair in pairs:
            if pair.id in means and (self.spec.annotated == "all" or pair.provenance not in FROM_STATES):
                scores, kind, _ = means[pair.id]
                provenance: Provenance = "people" if kind == "person" else "vlm"
                result.append(replace(pair, scores=_six_digits(scores), provenance=provenance))
            elif self.spec.unlabelled != "annotations" or self.states[pair.episode] is not None:
                result.append(pair)
        return result


def _with_label(pair: Pair, label: Label) -> Pair:
    """The pair with its label."""
    return replace(
        pair,
        scores=_six_digits(label.scores),
        faithful=_six_digits(label.faithful),
        provenance=label.provenance,
    )


def _six_digits(scores: Scores) -> tuple[float, ...]:
    """Scores rounded to six digits."""
    return tuple(float(f"{score:.6g}") for score in scores)
