"""All rollouts of the stage: every model, decoding and sampling on the same episodes, and the drift analysis."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.metrics.statistics import spearman
from roboalign.rollout.drift import (
    best_window,
    bound,
    bound_autoregressive,
    closed_form_window,
    predicted_error_independent,
    rows,
)
from roboalign.rollout.evaluation_episodes import EvaluationEpisodes
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.measure_drift import ErrorGrowth, measure_error_growth, rmse
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.rollout import StoredRollout, join_rollouts, rollout
from roboalign.rollout.spec import (
    ArSpec,
    DriftSwrSpec,
    FixedDecodingSpec,
    ModelName,
    RolloutSpec,
    SamplingName,
    SwrSpec,
)
from roboalign.rollout.video_metrics import frame_intervals
from roboalign.spec.base import Name
from roboalign.types import Json
from roboalign.video import to_float


@dataclass(frozen=True)
class RolloutSet:
    """A set of rollouts, such as `supervised.swr.greedy`, and the decoding that it is compared with."""

    model: ModelName
    decoding: Name
    sampling: SamplingName
    baseline: Name

    @property
    def name(self) -> str:
        """`model.decoding.sampling`."""
        return f"{self.model}.{self.decoding}.{self.sampling}"

    @property
    def base(self) -> str:
        """The set that it is compared with: the baseline of the same model and sampling."""
        return f"{self.model}.{self.baseline}.{self.sampling}"


def rollout_sets(spec: RolloutSpec) -> list[RolloutSet]:
    """All sets of the spec: of the supervised model, then of the aligned one."""
    models: dict[ModelName, Sequence[Name]] = {"supervised": tuple(spec.decodings), "aligned": spec.aligned_decodings}
    return [
        RolloutSet(model, decoding, sampling, spec.baseline)
        for model, decodings in models.items()
        for sampling, names in spec.sampling.items()
        for decoding in names
        if decoding in decodings
    ]


@dataclass(frozen=True)
class RolloutBatch:
    """Episodes that are rolled out at once, and by what."""

    decoding: FixedDecodingSpec
    model: ModelName
    sampling: SamplingName
    prompt: Prompt
    truth: Tensor | None
    """(B, F, 3, H, W), uint8, for a decoding that sees true frames."""


def roll_out_batch(
    tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], batch: RolloutBatch
) -> StoredRollout:
    """Roll out a batch by the model and sampling that it names."""
    device = batch.prompt.frames.device
    truth = None if batch.truth is None else to_float(batch.truth.to(device))
    return StoredRollout.of(rollout(batch.decoding, tokenizer, sampler, batch.prompt, truth))


@dataclass(frozen=True)
class RolloutSuite(Generic[ContextT, StateT]):
    """The evaluation episodes, and the models that roll them out."""

    spec: RolloutSpec
    tokenizer: FrameTokenizer[ContextT]
    samplers: Mapping[tuple[ModelName, SamplingName], FrameSampler[StateT]]
    episodes: EvaluationEpisodes
    validation: EvaluationEpisodes | None = None
    """Episodes on which `swr_drift` measures its window; it cannot be rolled out without them."""
    run_batches: Callable[[Sequence[RolloutBatch]], Iterable[StoredRollout]] | None = None
    """Rolls batches out, in order, perhaps in several processes; by default one after another by the `samplers`."""
    windows: dict[tuple[ModelName, SamplingName], int] = field(default_factory=dict)
    """The windows of `swr_drift` that were measured so far."""
    _swept: dict[SamplingName, dict[int, StoredRollout]] = field(default_factory=dict)
    """Autoregressive and SWR rollouts of the supervised model, by window; the horizon is plain autoregression."""

    def roll(
        self, decoding: FixedDecodingSpec, model: ModelName, sampling: SamplingName, prompt: Prompt | None = None
    ) -> StoredRollout:
        """Roll all episodes out, `spec.batch_size` at a time."""
        prompt = self.episodes.prompt if prompt is None else prompt
        batches = [
            RolloutBatch(
                decoding,
                model,
                sampling,
                prompt.select(part),
                self.episodes.future[part] if decoding.sees_true_frames else None,
            )
            for part in self.parts()
        ]
        sampler = self.samplers[model, sampling]
        made = (
            (roll_out_batch(self.tokenizer, sampler, batch) for batch in batches)
            if self.run_batches is None
            else self.run_batches(batches)
        )
        return join_rollouts(made, len(self.episodes), self.episodes.folder)

    def over(self, episodes: EvaluationEpisodes) -> Self:
        """The same models on other episodes."""
        return replace(self, episodes=episodes, _swept={})

    def parts(self) -> Iterator[slice]:
        """The rows of each batch of episodes: as few batches as `batch_size` allows, of equal size for the workers."""
        count = len(self.episodes)
        batches = -(-count // self.spec.batch_size)
        size = -(-count // max(1, batches)) or 1
        for start in range(0, count, size):
            yield slice(start, min(count, start + size))

    def roll_out_set(self, rollout_set: RolloutSet) -> StoredRollout:
        """The rollouts of one set."""
        decoding = self.decoding(rollout_set)
        if rollout_set.model == "supervised" and isinstance(decoding, ArSpec | SwrSpec):
            return self._window(rollout_set.sampling, decoding.peak_frames(self.spec.horizon))
        return self.roll(decoding, rollout_set.model, rollout_set.sampling)

    def decoding(self, rollout_set: RolloutSet) -> FixedDecodingSpec:
        """The decoding of a set, its window measured if the spec leaves that open."""
        decoding = self.spec.decodings[rollout_set.decoding]
        if isinstance(decoding, DriftSwrSpec):
            return SwrSpec(window=self.drift_window(rollout_set.model, rollout_set.sampling))
        return decoding

    def roll_out_more(
        self, rollout_set: RolloutSet, episodes: EvaluationEpisodes
    ) -> tuple[EvaluationEpisodes, StoredRollout] | None:
        """The rollouts of further episodes by the scored decoding; None for other sets, and without episodes."""
        if rollout_set.decoding != self.spec.scored_decoding or not len(episodes):
            return None
        suite = self.over(episodes)
        return episodes, suite.roll(self.spec.swr, rollout_set.model, rollout_set.sampling)

    def _window(self, sampling: SamplingName, window: int) -> StoredRollout:
        """SWR of the supervised model, made once; with the horizon as window it is plain autoregression."""
        kept = self._swept.setdefault(sampling, {})
        if window not in kept:
            decoding = ArSpec() if window == self.spec.horizon else SwrSpec(window=window)
            kept[window] = self.roll(decoding, "supervised", sampling)
        return kept[window]

    def other_actions(self, episodes: EvaluationEpisodes) -> StoredRollout:
        """The scored decoding of the supervised model on other episodes than its own, with the first sampling."""
        suite = self.over(episodes)
        return suite.roll(self.spec.swr, "supervised", self.spec.first_sampling)

    def samples(self, model: ModelName, first: Tensor | None = None) -> Iterator[Tensor]:
        """The frames (N, 1 + F, 3, H, W) of `spec.best_of` sampled rollouts of every episode by a model and the scored
        decoding, each with other seeds; `first` are those of the first one, if they are there."""
        for sample in range(self.spec.best_of):
            if sample == 0 and first is not None:
                yield first
                continue
            prompt = self.episodes.sample_prompt(self.spec.seed, sample)
            yield self.roll(self.spec.swr, model, "sampled", prompt).frames

    def sweep(self, sampling: SamplingName) -> dict[int, StoredRollout]:
        """SWR of the supervised model by window, ascending; the widest, the horizon, is plain autoregression.

        The windows of `spec.sweep` are tried with the first sampling only.
        """
        first = sampling == self.spec.first_sampling
        windows = self.spec.windows if first else sorted({self.spec.swr.window, self.spec.horizon})
        return {window: self._window(sampling, window) for window in windows}

    def swept_sets(self) -> Iterator[tuple[RolloutSet, StoredRollout]]:
        """The rollouts of the sweep's decodings, in the order of their windows."""
        sampling = self.spec.first_sampling
        rollouts = self.sweep(sampling)
        decodings = {name: self.spec.decodings[name] for name in self.spec.sweep}
        windows = {name: decoding.window for name, decoding in decodings.items() if isinstance(decoding, SwrSpec)}
        for name in sorted(windows, key=lambda name: windows[name]):
            yield RolloutSet("supervised", name, sampling, self.spec.baseline), rollouts[windows[name]]

    def measure_error_growth(self, model: ModelName, sampling: SamplingName, plain: Tensor) -> ErrorGrowth:
        """Measure the error growth of a model on the episodes, given its autoregressive rollouts (N, F, 3, H, W)."""
        episodes = self.episodes
        batches = (
            (episodes.prompt.select(part), episodes.video(part)[:, 1:], to_float(plain[part].to(episodes.device)))
            for part in self.parts()
        )
        sampler = self.samplers[model, sampling]
        return measure_error_growth(self.tokenizer, sampler, batches, self.spec.drift, self.spec.swr.window, True)

    def drift_window(self, model: ModelName, sampling: SamplingName) -> int:
        """The window of `swr_drift`: the one that the growth of errors on the validation episodes predicts.

        Raises ValueError without validation episodes.
        """
        if self.validation is None:
            raise ValueError("swr_drift measures its window on validation episodes; pass `validation`")
        if (model, sampling) not in self.windows:
            suite = self.over(self.validation)
            plain = suite.roll(ArSpec(), model, sampling)
            self.windows[model, sampling] = suite.measure_error_growth(model, sampling, plain.frames[:, 1:]).window()
        return self.windows[model, sampling]

    def _rmse(self, made: StoredRollout) -> NDArray[np.float64]:
        """The pixel errors of rollouts of the episodes, (N, F)."""
        device = self.episodes.device
        errors = [
            rmse(to_float(made.frames[part].to(device))[:, 1:], self.episodes.video(part)[:, 1:])
            for part in self.parts()
        ]
        return torch.cat(errors).double().cpu().numpy()

    def drift(self, sampling: SamplingName) -> tuple[dict[str, Json], list[dict[str, object]]]:
        """The figures of metrics/drift.json and the rows of plots/drift.tsv, of the supervised model."""
        swept = self.sweep(sampling)
        grown = self.measure_error_growth("supervised", sampling, swept[self.spec.horizon].frames[:, 1:])
        errors = {window: self._rmse(made) for window, made in swept.items()}
        measured = {window: values.mean(0) for window, values in errors.items()}
        figures: dict[str, Json] = {
            "n": len(self.episodes),
            "epsilon": {str(age): value for age, value in grown.at_ages.items()},
            "floor": {str(age): float(grown.floor[age - 1]) for age in grown.at_ages},
            "delta": grown.delta,
            "swept": {str(window): float(values.mean()) for window, values in measured.items()},
            "swept_window": best_window({window: float(values.mean()) for window, values in measured.items()}),
        }
        chosen = self.windows.get(("supervised", sampling))
        if chosen is not None:
            figures["validation_window"] = chosen
        if grown.alpha is None:
            return figures, []
        curves = rows(list(measured), grown.alpha, grown.error, grown.floor, grown.delta, measured)
        bounds = [(low, high) for values in errors.values() for _, low, high in frame_intervals(values)]
        for row, (low, high) in zip((row for row in curves if "measured" in row), bounds, strict=True):
            row |= {"measured_low": low, "measured_high": high}
        return figures | _predictions(grown, grown.alpha, measured), curves


def _predictions(grown: ErrorGrowth, alpha: float, measured: Mapping[int, NDArray[np.float64]]) -> dict[str, Json]:
    """The predictions from alpha; undefined ones are absent, such as a bound if alpha is 1 or more."""
    windows, error, floor, delta = list(measured), grown.error, grown.floor, grown.delta
    horizon, mean, errors = error.size, float(error.mean()), grown.predicted_errors()
    result: dict[str, Json] = {
        "alpha": alpha,
        "predicted": {str(window): errors[window] for window in windows},
        "predicted_window": best_window(errors),
        "predicted_window_swept": best_window({window: errors[window] for window in windows}),
    }
    limits = {str(window): bound(window, alpha, mean, delta) for window in windows}
    plain = bound_autoregressive(alpha, mean)
    if plain is not None:
        result["bound"] = {window: limit for window, limit in limits.items() if limit is not None}
        result["bound_autoregressive"] = plain
    closed = closed_form_window(alpha, mean, delta)
    if closed is not None:
        result["closed_form_window"] = closed
    found = [float(measured[window].mean()) for window in windows]
    ranks = spearman([errors[window] for window in windows], found)
    if len(windows) > 2 and ranks is not None:
        result["rank_correlation"] = ranks
    apart = {
        window: predicted_error_independent(window, alpha, error, floor, delta) for window in range(1, horizon + 1)
    }
    independent: dict[str, Json] = {
        "predicted": {str(window): apart[window] for window in windows},
        "predicted_window": best_window(apart),
    }
    ranks = spearman([apart[window] for window in windows], found)
    if len(windows) > 2 and ranks is not None:
        independent["rank_correlation"] = ranks
    result["independent_errors"] = independent
    return result
