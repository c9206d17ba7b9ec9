"""The gates: rules over measured values, each passed, failed, or not measured.

A gate never passes on an absent value: it is then listed as not measured, with the value that it needs. So are gates
that need gold scores if no source has simulator states.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from roboalign.evaluation.spec import GOLD, ComparisonSpec, EvaluationSpec
from roboalign.types import Json


class NotMeasuredError(Exception):
    """A value that a gate needs is absent; the message names it."""


@dataclass(frozen=True)
class Verdict:
    """Whether a rule holds, and the values that decided it."""

    rule: str
    passed: bool
    figures: Mapping[str, float] = field(default_factory=dict)


Rules = dict[str, Callable[[], Verdict]]
"""Gates by name; a rule raises NotMeasuredError if a value that it needs is absent."""


def figure(metrics: Mapping[str, Json], path: str, key: str = "mean") -> float:
    """Look up a number in the metrics.

    Args:
        metrics: Content of the metrics files by name.
        path: Keys separated by "/"; the first is the name of the metrics file.
        key: The key to return if the value at `path` is an interval.

    Raises:
        NotMeasuredError: The value is absent.
    """
    value: Json = metrics
    for part in path.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            raise NotMeasuredError(f"needs {path.replace('/', ' ')}")
        value = value[part]
    if isinstance(value, Mapping):
        value = value.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotMeasuredError(f"needs a number at {path.replace('/', ' ')}")
    return float(value)


def above_copy_context(metrics: Mapping[str, Json], part: str) -> Verdict:
    """The PSNR of `part` (tokenizer or world_model) is above that of repeating the context frame."""
    psnr, copy = figure(metrics, f"{part}/psnr"), figure(metrics, f"{part}/copy_context_psnr")
    figures = {"psnr": psnr, "copy_context_psnr": copy, "difference": psnr - copy}
    return Verdict("PSNR above that of repeating the context frame", psnr > copy, figures)


def action_gap(metrics: Mapping[str, Json]) -> Verdict:
    """The world model follows actions: its PSNR is higher with true than with wrong actions."""
    figures = {key: figure(metrics, "world_model/action_gap_psnr", key) for key in ("mean", "low", "high", "n")}
    return Verdict("PSNR with true minus wrong actions: interval above 0", figures["low"] > 0, figures)


def aligned_above_supervised(
    differences: Mapping[str, Json], aligned: Sequence[ComparisonSpec], scorer: str
) -> Verdict:
    """By `scorer`, the aligned model's faithful total is above the supervised model's in every listed comparison."""
    figures: dict[str, float] = {}
    for comparison in aligned:
        path = f"{comparison.model}/{comparison.against}/{scorer}_faithful/total"
        for key in ("mean", "low", "high", "n"):
            name = key if len(aligned) == 1 else f"{comparison.model} {key}"
            try:
                figures[name] = figure(differences, path, key)
            except NotMeasuredError:
                raise NotMeasuredError(
                    f"needs {comparison.model} and {comparison.against}, scored by {scorer}"
                ) from None
    passed = all(value > 0 for name, value in figures.items() if name.split(" ")[-1] == "low")
    return Verdict(f"faithful total by {scorer}, aligned minus supervised: interval above 0", passed, figures)


def motion_ratio(metrics: Mapping[str, Json], spec: EvaluationSpec) -> Verdict:
    """Alignment does not freeze videos or make them flicker: motion energy stays near the supervised model's."""
    ratio, low, high = figure(metrics, "rl/motion_ratio"), spec.gates.motion_ratio_low, spec.gates.motion_ratio_high
    figures = {"motion_ratio": ratio, "lowest": low, "highest": high}
    return Verdict(
        f"motion energy of the aligned over the supervised model's rollouts between {low:g} and {high:g}",
        low <= ratio <= high,
        figures,
    )


def motion_against_truth(metrics: Mapping[str, Json], spec: EvaluationSpec) -> Verdict:
    """Rollouts have about as much motion as the true future; frozen ones have less, flickering ones more."""
    low, high = spec.gates.motion_ratio_low, spec.gates.motion_ratio_high
    ratios = {name: figure(metrics, f"rollout/{name}/motion_ratio") for name in spec.gates.motion}
    figures = dict(ratios)
    with suppress(NotMeasuredError):  # shown for comparison: the motion that the tokenizer preserves
        figures["reconstruction"] = figure(metrics, "rollout/reconstruction/motion_ratio")
    rule = f"motion energy of rollouts over that of the true future between {low:g} and {high:g}"
    return Verdict(rule, all(low <= ratio <= high for ratio in ratios.values()), figures)


def swr_above_ar(metrics: Mapping[str, Json], spec: EvaluationSpec) -> Verdict:
    """SWR is better than plain autoregression in SSIM, PSNR and perceptual distance over the whole horizon."""
    model, against = spec.gates.swr.model, spec.gates.swr.against
    figures: dict[str, float] = {}
    for name in ("ssim", "psnr", "perceptual"):
        figures[f"{name} SWR"] = figure(metrics, f"rollout/{model}/{name}")
        figures[f"{name} AR"] = figure(metrics, f"rollout/{against}/{name}")
    gains = {name: figures[f"{name} SWR"] - figures[f"{name} AR"] for name in ("ssim", "psnr", "perceptual")}
    passed = gains["ssim"] > 0 and gains["psnr"] > 0 and gains["perceptual"] < 0
    return Verdict("SSIM and PSNR higher, perceptual distance lower, over the horizon", passed, figures)


def student_gold(metrics: Mapping[str, Json], spec: EvaluationSpec) -> Verdict:
    """Within groups of rollouts of one prompt, the student ranks as gold, which is not used in its training."""
    minimum, best = spec.gates.student_gold_correlation, spec.gates.best_of
    path = "student/within_groups/gold/faithful"
    figures: dict[str, float] = {}
    for frames in sorted(_at(metrics, path)):
        correlation = f"{path}/{frames}/correlation"
        figures |= {f"{key} {frames} frames": figure(metrics, correlation, key) for key in ("mean", "low", "high", "n")}
        gain = f"{path}/{frames}/best_of/{best}"
        figures |= {
            f"best of {best} {key} {frames} frames": figure(metrics, gain, key) for key in ("mean", "low", "high")
        }
    passed = all(v >= minimum for k, v in figures.items() if k.startswith("mean"))
    passed &= all(v > 0 for k, v in figures.items() if k.startswith(f"best of {best} low"))
    rule = f"correlation within groups at least {minimum:g}, and gold gained by best of {best}: interval above 0"
    return Verdict(rule, passed, figures)


def fidelity(differences: Mapping[str, Json], aligned: Sequence[ComparisonSpec]) -> Verdict:
    """Alignment does not significantly lower the PSNR or raise the position error."""
    figures: dict[str, float] = {}
    for comparison in aligned:
        for name in ("psnr", "position_error_cm"):
            path = f"{comparison.model}/{comparison.against}/outcomes/{name}"
            figures |= {
                f"{comparison.model} {name} {key}": figure(differences, path, key) for key in ("mean", "low", "high")
            }
    passed = all(v >= 0 for k, v in figures.items() if k.endswith("psnr high"))
    passed &= all(v <= 0 for k, v in figures.items() if k.endswith("position_error_cm low"))
    return Verdict(
        "PSNR not significantly lower and position error not significantly higher than supervised", passed, figures
    )


def false_success(differences: Mapping[str, Json], aligned: Sequence[ComparisonSpec]) -> Verdict:
    """Alignment does not raise the rate of false success: success shown for actions that truly fail."""
    figures: dict[str, float] = {}
    for comparison in aligned:
        path = f"{comparison.model}/{comparison.against}/outcomes/false_success"
        figures |= {f"{comparison.model} {key}": figure(differences, path, key) for key in ("mean", "low", "high", "n")}
    passed = all(v <= 0 for k, v in figures.items() if k.endswith(" low"))
    return Verdict("rate of false success, aligned minus supervised: interval not above 0", passed, figures)


def _at(metrics: Mapping[str, Json], path: str) -> Mapping[str, Json]:
    """The mapping at a "/"-separated path. Raises NotMeasuredError if it is absent or empty."""
    value: Json = metrics
    for part in path.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            raise NotMeasuredError(f"needs {path.replace('/', ' ')}")
        value = value[part]
    if not isinstance(value, Mapping) or not value:
        raise NotMeasuredError(f"needs {path.replace('/', ' ')}")
    return value


WAITING: Mapping[str, str] = {
    "student_gold_agreement": "needs gold: scores from the simulator's state",
    "aligned_above_supervised_gold": "needs gold: scores from the simulator's state",
}
"""Gates whose scorers may be absent, and what they need."""


def gates(
    metrics: Mapping[str, Json], differences: Mapping[str, Json], spec: EvaluationSpec
) -> tuple[dict[str, Json], dict[str, str]]:
    """Evaluate all gates.

    Args:
        metrics: Content of the metrics files by name, without absent files; `evaluation` has the entries so far.
        differences: {model: {against: {scorer: {dimension or "total": {mean, low, high, …}}}}}.
        spec: Thresholds and comparisons.

    Returns:
        The measured gates as {name: {passed, rule, figures}}, and the others as {name: what they need}.
    """
    rules: Rules = {
        "codec_above_copy_context": lambda: above_copy_context(metrics, "tokenizer"),
        "world_model_above_copy_context": lambda: above_copy_context(metrics, "world_model"),
        "action_gap": lambda: action_gap(metrics),
        "motion_ratio": lambda: motion_ratio(metrics, spec),
        "motion_against_truth": lambda: motion_against_truth(metrics, spec),
        "swr_above_ar": lambda: swr_above_ar(metrics, spec),
        "student_gold_agreement": lambda: student_gold(metrics, spec),
    }
    measured, missing = decide(rules | alignment_rules(differences, spec.aligned, (*spec.scorers, GOLD)))
    return measured, {name: WAITING.get(name, need) for name, need in missing.items()}


def alignment_rules(
    differences: Mapping[str, Json], aligned: Sequence[ComparisonSpec], scorers: Sequence[str]
) -> Rules:
    """The gates that compare the aligned with the supervised model.

    Args:
        differences: As for `gates`.
        aligned: The comparisons; all of them must pass.
        scorers: The scorers that must confirm the gain; one gate each.
    """
    rules: Rules = {
        "fidelity": lambda: fidelity(differences, aligned),
        "false_success": lambda: false_success(differences, aligned),
    }
    for scorer in scorers:
        rules[f"aligned_above_supervised_{scorer}"] = partial(aligned_above_supervised, differences, aligned, scorer)
    return rules


def decide(rules: Rules) -> tuple[dict[str, Json], dict[str, str]]:
    """The measured gates as {name: {passed, rule, figures}}, and the others as {name: what they need}."""
    measured: dict[str, Json] = {}
    missing: dict[str, str] = {}
    for name, rule in rules.items():
        try:
            verdict = rule()
        except NotMeasuredError as error:
            missing[name] = str(error)
        else:
            measured[name] = {"passed": verdict.passed, "rule": verdict.rule, "figures": dict(verdict.figures)}
    return measured, missing
