"""The report: one self-contained HTML page with the results of all stages.

Sections leave out values that were not measured; the last section lists them. Timings are not shown, because they
differ between runs and the page is a hashed output of the pipeline.
"""

from collections.abc import Mapping
from importlib.resources import files

import jinja2

from roboalign.report.alignment import alignment, optimizer_name
from roboalign.report.blocks import Block, Cell, Prose, Section, SpecText, Table
from roboalign.report.data_card import data_card
from roboalign.report.inputs import Inputs, perceptual
from roboalign.report.names import DASH, TIMES, dig, join_words, significant, title, words
from roboalign.report.policies import policies
from roboalign.report.results import clip_comparisons, drift, gates, sliding_window
from roboalign.report.scorers import scores
from roboalign.report.state_probes import PROBES, state_probes
from roboalign.report.training_sections import reward_quality, training
from roboalign.report.within_groups import within_groups
from roboalign.types import Json


def render(inputs: Inputs) -> str:
    """Render the page as HTML; deterministic. Sections without content are left out."""
    sections = [
        section
        for section in (
            experiment(inputs),
            gates(inputs),
            within_groups(inputs),
            scores(inputs),
            sliding_window(inputs),
            drift(inputs),
            clip_comparisons(inputs),
            alignment(inputs),
            policies(inputs),
            state_probes(inputs),
            reward_quality(inputs),
            training(inputs),
            data_card(inputs),
            not_measured(inputs),
        )
        if section.blocks
    ]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    folder = files("roboalign.report")
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    style = (folder / "page.css").read_text(encoding="utf-8")
    subtitle = (
        "Robot video world models, aligned by a distilled multimodal reward and decoded by sliding window re-encoding: "
        "the results of this run with intervals and sample sizes, and what was not measured."
    )
    return template.render(
        title="RoboAlign report",
        subtitle=subtitle,
        style=style,
        sections=sections,
    )


def experiment(inputs: Inputs) -> Section:
    """The settings of the experiment, and the full specs."""
    spec, metrics = inputs.spec, inputs.metrics
    sources = dig(spec, "sources")
    names = list(sources) if isinstance(sources, Mapping) else []
    facts: list[tuple[str, str]] = []

    def fact(name: str, *parts: tuple[str, Json]) -> None:
        present = [text.format(significant(value)) for text, value in parts if value is not None]
        if present:
            facts.append((name, " · ".join(present)))

    if names:
        facts.append(("Sources", join_words(names)))
    height, width = dig(spec, "tokenizer", "height"), dig(spec, "tokenizer", "width")
    if height and width:
        facts.append(("Frames", f"{height} {TIMES} {width} pixels"))
    fact(
        "Tokenizer",
        ("{} context tokens", dig(metrics, "tokenizer", "context_tokens")),
        ("{} dynamics tokens per frame", dig(metrics, "tokenizer", "dynamics_tokens")),
        ("{} steps", dig(spec, "tokenizer", "training", "steps")),
    )
    fact(
        "World model",
        ("{} layers", dig(spec, "world_model", "layers")),
        ("width {}", dig(spec, "world_model", "hidden_size")),
        ("{} steps", dig(spec, "world_model", "training", "steps")),
    )
    trained = {name: dig(spec, "probe", name, "widths") for name in PROBES}
    if any(trained.values()):
        texts = [f"{PROBES[name].lower()} {DASH.join(map(str, widths))}" for name, widths in trained.items() if widths]
        facts.append(("State probes", f"channels: {', '.join(texts)}"))
    fact("Bench", ("{} video-instruction pairs", _pairs(metrics)))
    for part, name in (("judge", "Judge"), ("held_out", "Held-out judge")):
        fact(
            name,
            ("{}", _kind(spec, part)),
            ("{} ensemble members", dig(spec, part, "members")),
            ("width {}", dig(spec, part, "encoder", "width")),
            ("seed {}", dig(spec, part, "training", "seed")),
        )
    fact("Student", ("{} parameters", dig(metrics, "student", "parameters")))
    reward = dig(spec, "rl", "reward", "kind")
    fact(
        "Alignment",
        ("{}", optimizer_name(spec)),
        ("reward: {}", None if reward is None else words(str(reward))),
        ("{} scores", dig(spec, "rl", "reward", "variant")),
        ("at most {} updates" if dig(spec, "rl", "guard") else "{} updates", dig(metrics, "rl", "steps")),
        ("groups of {}", dig(spec, "rl", "group_size")),
        ("rollouts of {} frames", dig(spec, "rl", "horizon")),
        ("KL coefficient {}", dig(spec, "rl", "kl_coef")),
    )
    scored_decoding = str(dig(spec, "rollout", "scored_decoding"))
    fact(
        "Rollouts",
        ("{} frames", dig(spec, "rollout", "horizon")),
        ("{} held-out episodes", dig(metrics, "rollout", "episodes")),
        ("SWR window W = {}", dig(spec, "rollout", "decodings", scored_decoding, "window")),
    )
    rows = [[Cell(name), Cell(text)] for name, text in facts]
    blocks: list[Block] = [Table("This experiment", ["Part", "Setting"], rows)] if rows else []
    blocks += [SpecText(f"All settings of {words(name)}", text) for name, text in sorted(inputs.spec_text.items())]
    return Section("experiment", "Experiment", blocks)


def _kind(spec: Mapping[str, Json], part: str) -> Json:
    kind = dig(spec, part, "kind")
    return None if kind is None else words(str(kind))


def _pairs(metrics: Mapping[str, Json]) -> Json:
    pairs = dig(metrics, "bench", "pairs")
    return pairs if isinstance(pairs, int) else None


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
            f"LPIPS: its published weights were not available. {perceptual(inputs)} is used instead; its values cannot "
            "be compared with published LPIPS."
        )
    items += [f"The stage {stage} has no metrics." for name, stage in STAGES if not inputs.metrics.get(name)]
    if inputs.metrics.get("judge") and not dig(inputs.metrics, "judge", "within_groups", "gold"):
        items.append("Agreement within groups: the bench has no groups of rollouts in its test split.")
    items += [
        "Variation over training seeds: every model was trained once. Intervals are over episodes only.",
        "An external vision-language judge and a blinded human study, which the paper has, are not part of this run.",
        "Speed and memory: they are measured in each run and written to timings/, one file for each stage. They differ "
        "between runs, so they are not hashed and not shown here. The limit of 1 % on SWR's extra time is therefore "
        "not part of its gate.",
    ]
    return Section("not-measured", "Not measured", [Prose(items, listed=True)])
