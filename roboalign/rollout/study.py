"""All rollouts of the stage: every model, decoding and sampling over the same scenes, and the drift behind them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal

import numpy as np

from roboalign.evaluation.statistics import spearman
from roboalign.rollout.drift import (
    best_window,
    bound,
    bound_autoregressive,
    closed_form_window,
    contraction,
    epsilon,
    every_age,
    predicted_error,
    predicted_error_independent,
    rows,
)
from roboalign.rollout.interfaces import ContextT, Sampler, StateT, Tokenizer
from roboalign.rollout.measure_drift import divergences, encode_truth, one_step_errors, refresh_errors, rmse
from roboalign.rollout.rollout import Rollout, joined, rollout
from roboalign.rollout.scenes import Scenes
from roboalign.rollout.segment import Prompt
from roboalign.rollout.spec import ALWAYS, ArSpec, DecodingName, DecodingSpec, RolloutSpec, SamplingName, SwrSpec
from roboalign.types import Json

ModelName = Literal["supervised", "aligned"]
"""The world model after supervised training, and after alignment."""


@dataclass(frozen=True)
class ClipSet:
    """The name of a set of rollouts, as in `supervised.swr.greedy`."""

    model: ModelName
    decoding: DecodingName
    sampling: SamplingName

    @property
    def name(self) -> str:
        """`model.decoding.sampling`."""
        return f"{self.model}.{self.decoding}.{self.sampling}"

    @property
    def base(self) -> str:
        """The set that it is compared with: plain autoregression of the same model, sampled alike."""
        return f"{self.model}.ar.{self.sampling}"


def clip_sets(spec: RolloutSpec) -> list[ClipSet]:
    """All sets of the spec. Each way of sampling is made with the decodings of `ALWAYS`, the others with the first."""
    models: dict[ModelName, Sequence[DecodingName]] = {
        "supervised": spec.decodings,
        "aligned": spec.aligned_decodings,
    }
    return [
        ClipSet(model, decoding, sampling)
        for model, decodings in models.items()
        for sampling in spec.sampling
        for decoding in decodings
        if sampling == spec.sampling[0] or decoding in ALWAYS
    ]


@dataclass(frozen=True)
class Study(Generic[ContextT, StateT]):
    """The scenes with what rolls them out."""

    spec: RolloutSpec
    tokenizer: Tokenizer[ContextT]
    samplers: Mapping[tuple[ModelName, SamplingName], Sampler[StateT]]
    scenes: Scenes
    _swept: dict[SamplingName, dict[int, Rollout]] = field(default_factory=dict)
    """Autoregressive and SWR rollouts of the supervised model, by window; the horizon is plain autoregression."""

    def roll(self, decoding: DecodingSpec, sampler: Sampler[StateT], prompt: Prompt | None = None) -> Rollout:
        """Roll all scenes out, `spec.batch` at a time."""
        prompt = self.scenes.prompt if prompt is None else prompt
        return joined(
            [
                rollout(decoding, self.tokenizer, sampler, prompt.rows(part), self.scenes.future[part])
                for part in self._parts()
            ]
        )

    def _parts(self) -> Iterator[slice]:
        for start in range(0, len(self.scenes), self.spec.batch):
            yield slice(start, start + self.spec.batch)

    def make(self, one: ClipSet) -> Rollout:
        """The rollouts of one set."""
        windows = {"ar": self.spec.horizon, "swr": self.spec.swr.window}
        if one.model == "supervised" and one.decoding in windows:
            return self._window(one.sampling, windows[one.decoding])
        return self.roll(self.spec.decoding(one.decoding), self.samplers[one.model, one.sampling])

    def _window(self, sampling: SamplingName, window: int) -> Rollout:
        """SWR of the supervised model, made once; with the horizon as window it is plain autoregression."""
        kept = self._swept.setdefault(sampling, {})
        if window not in kept:
            decoding = ArSpec() if window == self.spec.horizon else SwrSpec(window=window)
            kept[window] = self.roll(decoding, self.samplers["supervised", sampling])
        return kept[window]

    def other_actions(self, scenes: Scenes) -> Rollout:
        """SWR of the supervised model over other scenes than its own, by the first way of sampling."""
        sampler = self.samplers["supervised", self.spec.sampling[0]]
        return replace(self, scenes=scenes, _swept={}).roll(self.spec.swr, sampler)

    def samples(self, count: int) -> Iterator[Rollout]:
        """`count` samples of every scene by the supervised model, sampled, plain autoregression; each its own seeds."""
        if count:
            yield self._window("sampled", self.spec.horizon)
        for sample in range(1, count):
            prompt = self.scenes.sampled(self.spec.seed, sample)
            yield self.roll(self.spec.decoding("ar"), self.samplers["supervised", "sampled"], prompt)

    def sweep(self, sampling: SamplingName) -> dict[int, Rollout]:
        """SWR of the supervised model by window, ascending; the widest, the horizon, is plain autoregression.

        The windows of `spec.sweep` are tried with the first way of sampling, the others know only `swr.window`.
        """
        more = self.spec.sweep if sampling == self.spec.sampling[0] else ()
        windows = {*more, self.spec.swr.window, self.spec.horizon}
        return {window: self._window(sampling, window) for window in sorted(windows)}

    def drift(self, sampling: SamplingName) -> tuple[dict[str, Json], list[dict[str, object]]]:
        """The figures of metrics/drift.json and the rows of plots/drift.tsv, of the supervised model."""
        spec, scenes, swept = self.spec, self.scenes, self.sweep(sampling)
        sampler, horizon = self.samplers["supervised", sampling], spec.horizon
        plain = swept[horizon].frames[:, 1:]
        ages = spec.drift.ages
        one_step, floors, pairs = [], [], []
        for part in self._parts():
            prompt = scenes.prompt.rows(part)
            truth = encode_truth(self.tokenizer, prompt, scenes.future[part])
            floors.append(rmse(truth.reconstruction, truth.frames).double().cpu().numpy())
            one_step.append(one_step_errors(self.tokenizer, sampler, prompt, truth, ages))
            pairs.append(
                divergences(self.tokenizer, sampler, prompt, truth, plain[part], spec.drift.starts, spec.drift.steps)
            )
        floor = np.concatenate(floors).mean(0)
        one = np.concatenate(one_step).mean(0)
        measured_ages = epsilon(one, floor[[age - 1 for age in ages]])
        error = every_age(dict(zip(ages, map(float, measured_ages), strict=True)), horizon)
        boundaries = slice(spec.swr.window - 1, None, spec.swr.window)
        delta = float(refresh_errors(self.tokenizer, plain[:, boundaries]).mean())
        alpha = contraction(np.concatenate(pairs))
        measured = {
            window: rmse(made.frames[:, 1:], scenes.future).double().cpu().numpy().mean(0)
            for window, made in swept.items()
        }
        figures: dict[str, Json] = {
            "n": len(scenes),
            "epsilon": {str(age): float(value) for age, value in zip(ages, measured_ages, strict=True)},
            "floor": {str(age): float(floor[age - 1]) for age in ages},
            "delta": delta,
            "swept": {str(window): float(values.mean()) for window, values in measured.items()},
            "swept_window": best_window({window: float(values.mean()) for window, values in measured.items()}),
        }
        if alpha is None:
            return figures, []
        return figures | _predicted(list(measured), alpha, error, floor, delta, measured), rows(
            list(measured), alpha, error, floor, delta, measured
        )


def _predicted(
    windows: Sequence[int],
    alpha: float,
    error: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    floor: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    delta: float,
    measured: Mapping[int, np.ndarray[tuple[int, ...], np.dtype[np.float64]]],
) -> dict[str, Json]:
    """What follows from alpha; keys of what does not exist (a bound where alpha is 1 or more) are absent."""
    horizon, mean = error.size, float(error.mean())
    errors = {window: predicted_error(window, alpha, error, floor, delta) for window in range(1, horizon + 1)}
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
