"""The first section: headline numbers, the verdict of each gate and what it means, and the settings of the run."""

from collections.abc import Mapping

from roboalign.report.alignment import optimizer_name
from roboalign.report.blocks import Block, Cell, KeyFigure, KeyFigures, Prose, Section, Table
from roboalign.report.gates import gates
from roboalign.report.headline import (
    HEADLINE_SCORERS,
    alignment_comparison,
    headline_figures,
    longest_groups,
    swr_comparison,
)
from roboalign.report.inputs import Inputs
from roboalign.report.names import DASH, FAITHFUL, SCORERS, TIMES, dig, join_words, model, significant, words
from roboalign.report.state_probes import PROBES
from roboalign.report.tables import difference_tone, estimate
from roboalign.types import Json


def overview(inputs: Inputs) -> Section:
    """Headline numbers, gates, and the settings of the experiment."""
    evaluation = inputs.metrics.get("evaluation")
    blocks: list[Block] = []
    headline = key_figures(inputs)
    if headline:
        blocks.append(KeyFigures(headline))
    if dig(evaluation, "gates") is not None:
        blocks += [
            Prose(
                [
                    "A gate is a condition that must hold for the results below to be meaningful. A failed gate is "
                    "also a result. A gate whose values are absent is neither passed nor failed."
                ]
            ),
            gates(evaluation),
        ]
    settings = experiment(inputs)
    blocks += [settings] if settings.rows else []
    return Section("overview", "Overview", blocks)


def key_figures(inputs: Inputs) -> list[KeyFigure]:
    """The headline numbers that this run measured."""
    headline, figures = headline_figures(inputs), list[KeyFigure]()

    def add(label: str, value: Json, digits: int, section: str, note: str, sign: bool = True) -> None:
        cell = estimate(value, digits, difference_tone(value) if sign else "", sign)
        if cell.text != DASH:
            count = dig(value, "n")
            interval = f"{cell.note} · n = {count}" if cell.note and count is not None else cell.note
            figures.append(KeyFigure(label, cell.text, "\n".join(filter(None, (interval, note))), section, cell.tone))

    aligned, supervised = alignment_comparison(inputs.spec)
    for scorer in HEADLINE_SCORERS:
        text = f"{model(aligned)} minus {model(supervised)}, faithful points"
        gain = headline.get(f"alignment_gain.{scorer}{FAITHFUL}")
        add(f"Gain by alignment, {SCORERS[scorer].lower()}", gain, 2, "scores", text)
    swr, _ = swr_comparison(inputs.spec)
    horizon = dig(inputs.spec, "rollout", "horizon")
    frames = "" if horizon is None else f"PSNR over {horizon} frames, against plain autoregression"
    add("Gain by SWR (dB)", dig(inputs.metrics, "rollout", swr, "less_ar", "psnr"), 2, "swr", frames)
    longest, _ = longest_groups(inputs.metrics, "student")
    text = f"within groups of rollouts of {longest} frames"
    add("Student's correlation with gold", headline.get("student.gold_correlation"), 2, "groups", text, sign=False)
    return figures


def experiment(inputs: Inputs) -> Table:
    """The main settings of the experiment."""
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
    return Table("This experiment", ["Part", "Setting"], rows, wrapped=True)


def _kind(spec: Mapping[str, Json], part: str) -> Json:
    kind = dig(spec, part, "kind")
    return None if kind is None else words(str(kind))


def _pairs(metrics: Mapping[str, Json]) -> Json:
    pairs = dig(metrics, "bench", "pairs")
    return pairs if isinstance(pairs, int) else None
