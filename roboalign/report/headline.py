"""The headline figures of an experiment, for the overview and for `dvc exp show` and `dvc exp diff`."""

from collections.abc import Mapping

from roboalign.report.inputs import Inputs
from roboalign.report.names import FAITHFUL, dig, mean_of
from roboalign.types import Json

HEADLINE_SCORERS = ("gold", "held_out")
"""The scorers of the headline: those that alignment is not trained on."""

VIDEO_METRICS = ("psnr", "ssim", "perceptual")


def headline_figures(inputs: Inputs) -> dict[str, Json]:
    """The headline figures that this run measured, by dotted names. Each is a number or {mean, low, high, n}.

    `ar` and `swr` are the decodings of the SWR gate; `supervised` and `aligned` are the clip sets of the first
    comparison of `evaluation.aligned`, and `alignment_gain` is their difference, paired by episode.
    """
    metrics, evaluation = inputs.metrics, inputs.metrics.get("evaluation")
    figures: dict[str, Json] = {
        "tokenizer.psnr": dig(metrics, "tokenizer", "psnr"),
        "world_model.psnr": dig(metrics, "world_model", "psnr"),
        "world_model.action_gap_psnr": dig(metrics, "world_model", "action_gap_psnr"),
    }
    for name, clip_set in zip(("swr", "ar"), swr_comparison(inputs.spec), strict=True):
        figures |= {f"{name}.{metric}": dig(metrics, "rollout", clip_set, metric) for metric in VIDEO_METRICS}
    for part in ("judge", "student"):
        _, groups = longest_groups(metrics, part)
        figures[f"{part}.gold_correlation"] = dig(groups, "correlation")
    figures["student.judge_spearman"] = dig(metrics, "student", "total", "spearman")
    aligned, supervised = alignment_comparison(inputs.spec)
    for name, clip_set in (("supervised", supervised), ("aligned", aligned)):
        for scorer in HEADLINE_SCORERS:
            figures[f"{name}.{scorer}{FAITHFUL}"] = dig(evaluation, "models", clip_set, scorer + FAITHFUL, "total")
        figures[f"{name}.false_success"] = dig(evaluation, "outcomes", clip_set, "false_success")
    for scorer in HEADLINE_SCORERS:
        gain = dig(evaluation, "differences", aligned, supervised, scorer + FAITHFUL, "total")
        figures[f"alignment_gain.{scorer}{FAITHFUL}"] = gain
    for name in ("supervised", "aligned"):
        figures[f"policies.{name}_pearson"] = dig(metrics, "policies", "agreement", name, "pooled", "pearson")
    gates: Mapping[str, Json] | None = dig(evaluation, "gates")
    if gates is not None:
        passed = sum(bool(gate["passed"]) for gate in gates.values())
        figures |= {
            "gates.passed": passed,
            "gates.failed": len(gates) - passed,
            "gates.not_measured": len(dig(evaluation, "gates_not_measured") or ()),
        }
    return {name: value for name, value in figures.items() if mean_of(value) is not None}


def summary(inputs: Inputs) -> dict[str, Json]:
    """The content of metrics/summary.json: the headline figures as numbers, {group: {name: number}}."""
    content: dict[str, Json] = {}
    for name, value in headline_figures(inputs).items():
        group, _, figure = name.partition(".")
        mean = mean_of(value)
        content.setdefault(group, {})[figure] = value if isinstance(value, int) else mean
    return content


def swr_comparison(spec: Mapping[str, Json]) -> tuple[str, str]:
    """The clip sets that the SWR gate compares: by SWR, and autoregressive."""
    found = dig(spec, "evaluation", "gates", "swr")
    return str(dig(found, "model") or "supervised.swr.greedy"), str(dig(found, "against") or "supervised.ar.greedy")


def alignment_comparison(spec: Mapping[str, Json]) -> tuple[str, str]:
    """The clip sets of the first comparison of `evaluation.aligned`, aligned and supervised; '' if it has none."""
    pair = next(iter(dig(spec, "evaluation", "aligned") or ()), None)
    return str(dig(pair, "model") or ""), str(dig(pair, "against") or "")


def longest_groups(metrics: Mapping[str, Json], part: str) -> tuple[str, Json]:
    """The length in frames of the longest rollouts in groups of one prompt, and the agreement within these groups of
    the faithful scores of `part`, judge or student, with gold; ('', None) if it was not measured."""
    groups: Mapping[str, Json] = dig(metrics, part, "within_groups", "gold", "faithful") or {}
    longest = max(groups, key=int, default="")
    return longest, groups.get(longest)
