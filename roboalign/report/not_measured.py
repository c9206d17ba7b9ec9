"""The last section: a list of what was not measured."""

from roboalign.report.blocks import Prose, Section
from roboalign.report.inputs import Inputs, perceptual
from roboalign.report.names import dig, title, words
from roboalign.report.state_probes import PROBES

STAGES = (
    ("tokenizer", "tokenizer"),
    ("world_model", "world_model"),
    *((f"probe/{name}", f"probe@{name}") for name in PROBES),
    ("judge", "judge@judge"),
    ("held_out", "judge@held_out"),
    *((name, name) for name in ("student", "rl", "rollout", "drift", "evaluation")),
)
"""Metrics files and the stages that write them."""


def not_measured(inputs: Inputs) -> Section:
    """A list of what was not measured: gates, comparisons, stages without metrics, and known omissions."""
    evaluation = inputs.metrics.get("evaluation")
    items = [
        f"{title(name)}: {words(reason)}."
        for name, reason in sorted((dig(evaluation, "gates_not_measured") or {}).items())
    ]
    comparisons = dig(evaluation, "comparisons_not_measured") or []
    items += [f"The difference of {text}: the clips do not exist." for text in comparisons]
    if perceptual(inputs) != "LPIPS":
        items.append(
            f"LPIPS: {perceptual(inputs)} is used instead, whose values cannot be compared with it; `evaluation: "
            "lpips` measures LPIPS with its published weights."
        )
    items += [f"The stage {stage} has no metrics." for name, stage in STAGES if not inputs.metrics.get(name)]
    if inputs.metrics.get("judge") and not dig(inputs.metrics, "judge", "within_groups", "gold"):
        items.append("Agreement within groups: the bench has no groups of rollouts in its test split.")
    items += [
        "Variation over training seeds: every model was trained once. Intervals are over episodes only.",
        "An external vision-language judge and a blinded human study, which the paper has, are not part of this run; "
        "`python -m roboalign pairs build` writes the page of such a study.",
        "Speed and memory are measured in each run and written to timings/, one file for each stage. They differ "
        "between runs, so they are not hashed; Provenance shows the times of stages. The limit of 1 % on SWR's extra "
        "time is therefore not part of its gate.",
    ]
    return Section("not-measured", "Not measured", [Prose(items, listed=True)])
