"""The section on alignment: changes from before to after, the checks during training, and training curves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Cell, Prose, Section, Table, Tone
from roboalign.report.charts import Rows, as_number
from roboalign.report.inputs import Inputs
from roboalign.report.names import (
    FAITHFUL,
    SCORERS,
    bounds,
    dig,
    mean_of,
    number,
    scorer_order,
    significant,
    title,
    words,
)
from roboalign.report.plots import Panel, Series, line_chart
from roboalign.report.tables import EMPTY, difference_tone, estimate
from roboalign.types import Json

OPTIMIZERS: Mapping[str, tuple[str, str]] = {
    "grpo": (
        "GRPO",
        "group relative policy optimisation: rollouts of one prompt are compared with each other, with a clipped "
        "likelihood ratio",
    ),
    "first_order": (
        "First order",
        "the reward is differentiated through the reward model and the decoder into the expected code values of the "
        "policy, straight-through",
    ),
    "best_of_n": (
        "Best of N",
        "fine-tuning on the rollouts of each group that have the highest reward (rejection sampling)",
    ),
}
"""Name and description of each `rl.optimizer.kind`."""

SCALARS = ("reward", "indicators", "success", "gradient_cosine")
"""Keys of metrics/rl.json with their own table or sentence."""


def alignment(inputs: Inputs) -> Section:
    """Scores before and after, success, indicators of reward hacking, the guard's checks, and curves by update."""
    metrics = inputs.metrics.get("rl")
    checks = inputs.curves.get("rl_checks", ())
    panels = charts.panels(inputs.curves.get("rl", ()))
    blocks: list[Block] = []
    candidates = [
        before_after(dig(metrics, "reward") or {}, dig(inputs.spec, "rl", "reward", "variant")),
        success(dig(metrics, "success") or {}),
        tables.before_after("Indicators of reward hacking, test prompts", dig(metrics, "indicators") or {}),
    ]
    blocks += [table for table in candidates if table.rows]
    blocks += _checks(checks, inputs)
    if panels:
        blocks.append(
            line_chart("By policy update, on training prompts", panels, "rl", ("rl.training", "rl.optimizer"))
        )
    if metrics:
        table = tables.flat("Further figures", metrics, SCALARS)
        blocks += [replace(table, folded=True)] if table.rows else []
    text = description(inputs) if blocks else []
    return Section("alignment", "Alignment", [Prose(text), *blocks] if text else blocks)


def optimizer_name(spec: Mapping[str, Json]) -> str | None:
    """The name of the policy optimiser; None if the spec has none."""
    kind = dig(spec, "rl", "optimizer", "kind")
    return None if kind is None else OPTIMIZERS.get(str(kind), (title(str(kind)), ""))[0]


def description(inputs: Inputs) -> list[str]:
    """Paragraphs on the optimiser and its reward, and on the signal-to-noise ratio of one update."""
    rl, paragraphs = inputs.spec.get("rl"), list[str]()
    kind = dig(rl, "optimizer", "kind")
    if kind is not None:
        name, what = OPTIMIZERS.get(str(kind), (title(str(kind)), ""))
        text = f"Optimiser: {name}" + (f" ({what})" if what else "") + "."
        reward, variant = dig(rl, "reward", "kind"), dig(rl, "reward", "variant")
        if reward is not None:
            text += f" Reward: {words(str(reward))}" + (f", {variant} scores" if variant else "") + "."
        size, coefficient = dig(rl, "group_size"), dig(rl, "kl_coef")
        if size is not None:
            text += f" Rollouts of one prompt: {significant(size)}."
        if coefficient is not None:
            text += f" Coefficient of the KL divergence from the supervised model: {significant(coefficient)}."
        paragraphs.append(text)
    cosine = dig(inputs.metrics, "rl", "gradient_cosine")
    mean, interval = mean_of(cosine), bounds(cosine)
    if mean is not None:
        text = (
            "Signal-to-noise ratio of one update: before training, policy gradients of different batches have a cosine "
        )
        text += f"of {number(mean, 3)} on average"
        if interval is not None:
            text += f" ({number(interval[0], 3)} to {number(interval[1], 3)}"
            pairs, batches = dig(cosine, "n"), dig(cosine, "batches")
            text += f", {pairs} pairs" if pairs is not None else ""
            text += f" of {batches} batches)" if batches is not None else ")"
        text += (
            ". 1: all batches give the same direction. 0: the gradients are noise, and more rollouts per step are "
            "needed. Pairs share batches, so the interval is somewhat too narrow."
        )
        paragraphs.append(text)
    return paragraphs


def before_after(reward: Mapping[str, Json], variant: Json = None) -> Table:
    """One row for each scorer: faithful total before and after and the paired change, then the same for absolute
    totals. `variant` is that of the maximised reward, None if it has none."""
    measured = {name for name in reward if mean_of(dig(reward, name, "before")) is not None}
    bases = sorted({name.removesuffix(FAITHFUL) for name in measured}, key=scorer_order)
    bases = [name for name in ("proxy",) if name in bases] + [name for name in bases if name != "proxy"]
    rows = []
    for base in bases:
        if base == "proxy":
            cells, blank = _change(reward.get(base)), [EMPTY] * 3
            columns = [*blank, *cells] if variant == "absolute" else [*cells, *blank]
            row = [Cell("Maximised reward", "in its own units"), *columns]
        else:
            row = [
                Cell(SCORERS.get(base, title(base))),
                *_change(reward.get(base + FAITHFUL)),
                *_change(reward.get(base)),
            ]
        rows.append(row)
    head = ["Scorer"]
    for kind in ("faithful", "absolute"):
        head += [f"Before\n{kind}", f"After\n{kind}", f"Change\n{kind}"]
    return Table(
        "Total score before and after alignment, sampled rollouts of test prompts",
        head,
        rows,
        "Both models use the same prompts and seeds. Change: paired by episode, 95 % interval; coloured if it excludes "
        "0. If the maximised reward, the student or the judge rises but the held-out judge and gold do not, that is "
        "reward hacking.",
    )


def _change(value: Json) -> list[Cell]:
    """Cells of the value before, after, and of the paired change."""
    before, after = mean_of(dig(value, "before")), mean_of(dig(value, "after"))
    if before is None or after is None:
        return [EMPTY] * 3
    paired = {key: value[key] for key in ("mean", "low", "high", "n") if key in value}
    if "mean" not in paired:
        paired["mean"] = after - before
    return [estimate(before, 3), estimate(after, 3), estimate(paired, 3, difference_tone(paired), sign=True)]


def success(values: Mapping[str, Json]) -> Table:
    """Rates of false success (shown although the true outcome fails) and missed success, before and after."""
    rows = []
    for key, count, condition in (
        ("false_success", "true_failures", "the true outcome fails"),
        ("missed_success", "true_successes", "the true outcome succeeds"),
    ):
        cells = [estimate(dig(values, name, key), 3) for name in ("before", "after")]
        if any(cell is not EMPTY for cell in cells):
            prompts = dig(values, "before", count)
            note = "" if prompts is None else f"of {significant(prompts)} prompts; {condition}"
            rows.append([Cell(title(key), note), *cells])
    return Table(
        "False and missed success before and after, test prompts",
        ["Fraction of prompts", "Before", "After"],
        rows,
        "As perceived by gold's state probe in the rollout and in the true outcome. Rates with intervals over all "
        "evaluation episodes are in Outcomes under Independent scorers.",
    )


def _checks(rows: Rows, inputs: Inputs) -> list[Block]:
    """A chart of the guard's checks on validation prompts against KL, and a table of them by update."""
    if not rows:
        return []
    scorer = str(dig(inputs.spec, "rl", "guard", "scorer") or "held_out")
    columns = check_columns(scorer)
    present = [(key, text) for key, text in columns if any(as_number(row.get(key)) is not None for row in rows)]
    blocks: list[Block] = []
    panels = check_panels(rows, [item for item in present if item[0] != "kl"])
    if panels:
        caption = "Checks on validation prompts, against the distance from the supervised model"
        blocks.append(line_chart(caption, panels, "checks", ("rl.guard", "rl.kl_coef")))
    best = best_check(rows, dig(inputs.spec, "rl", "guard", "max_psnr_loss"))
    body = []
    for index, row in enumerate(rows):
        tone: Tone = "strong" if index == best else ""
        cells = [estimate(as_number(row.get(key)), DIGITS.get(key, 3), tone) for key, _ in present]
        body.append([Cell(significant(int(float(row["step"]))), "kept" if index == best else ""), *cells])
    loss = dig(inputs.spec, "rl", "guard", "max_psnr_loss")
    rule = "" if loss is None else f" among those whose PSNR is at most {significant(loss)} dB below the first check's"
    note = (
        f"Means over validation prompts; the first check is before training. Kept: the check with the highest faithful "
        f"total by the {SCORERS.get(scorer, scorer).lower()}{rule}, whose weights are used. Gold does not influence "
        "this choice."
    )
    blocks.append(Table("Checks by policy update", ["Update", *(text for _, text in present)], body, note))
    return blocks


DIGITS = {"kl": 4, "psnr": 2}


def check_columns(scorer: str) -> list[tuple[str, str]]:
    """Columns of plots/rl_checks.tsv and their headings; `scorer` is the guard's scorer."""
    return [
        ("proxy", "Maximised reward"),
        ("confirmed", f"{SCORERS.get(scorer, title(scorer))}, faithful"),
        ("gold", "Gold, faithful"),
        ("psnr", "PSNR (dB)"),
        ("kl", "KL (nats per token)"),
    ]


def check_panels(rows: Rows, columns: Sequence[tuple[str, str]]) -> list[Panel]:
    """A panel for each column, against the square root of the KL divergence, in the order of the updates."""
    panels = []
    for key, text in columns:
        points = [
            (max(0.0, kl) ** 0.5, value)
            for row in rows
            if (kl := as_number(row.get("kl"))) is not None and (value := as_number(row.get(key))) is not None
        ]
        if points:
            series = Series(text, [x for x, _ in points], [y for _, y in points])
            panels.append(Panel(text, "square root of the KL divergence", [series], whole=False))
    return panels


def best_check(rows: Rows, max_psnr_loss: Json) -> int | None:
    """The index of the check whose weights were kept; None if `max_psnr_loss` or the first PSNR is not known.

    Repeats the rule of `roboalign.rl.guard.decide`, because the report must not import `rl`.
    """
    checks = [(as_number(row.get("confirmed")), as_number(row.get("psnr"))) for row in rows]
    first = checks[0][1] if checks else None
    if first is None or not isinstance(max_psnr_loss, int | float):
        return None
    allowed = {
        index: confirmed
        for index, (confirmed, psnr) in enumerate(checks)
        if confirmed is not None and psnr is not None and (index == 0 or psnr >= first - max_psnr_loss)
    }
    return max(allowed, key=lambda index: allowed[index], default=None)
