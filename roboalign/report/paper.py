"""The paper's published numbers (arXiv 2605.03821), as reference beside those of this run.

They were measured on other data, at another scale and by another judge, so that directions can be compared, not sizes.
"""

from collections.abc import Mapping, Sequence

from roboalign.report.blocks import Block, Cell, Prose, Section, Table
from roboalign.report.inputs import Inputs, dimensions
from roboalign.report.names import DASH, FAITHFUL, MINUS, bounds, dig, is_bound, mean_of, model, number, order, title
from roboalign.report.tables import estimate
from roboalign.types import Json

SOURCE = "paper, published"

PUBLISHED_SWR: Mapping[str, tuple[str, str, str]] = {
    "psnr": ("20.49", "21.11", "+0.62"),
    "ssim": ("0.7526", "0.7735", "+2.8 %"),
    "perceptual": ("0.2078", "0.1875", f"{MINUS}9.8 %"),
    "roi_perceptual": (DASH, DASH, f"{MINUS}12.2 %"),
    "peak_sequence": (DASH, DASH, f"{MINUS}54.8 %"),
}
"""Plain autoregression, SWR with W = 6, and change, over 30 frames (RQ3)."""

PUBLISHED_SCORES: Mapping[str, tuple[str, ...]] = {
    "Real videos": ("3.00", "2.00", "1.00", "1.00", "1.00", "2.00", "10.00"),
    "RLVR-World": ("2.29", "1.31", "0.44", "0.43", "0.84", "1.19", "6.54"),
    "iVideoGPT": ("2.60", "1.60", "0.70", "0.74", "0.56", "1.54", "7.74"),
    "Kling 2.6": ("2.42", "1.38", "0.46", "0.58", "0.82", "1.18", "6.84"),
    "Wan2.2-TI2V-5B (LoRA)": (*(DASH,) * 6, "6.01"),
    "Vid2World": (*(DASH,) * 6, "5.90"),
    "RoboAlign-R1": ("2.72", "1.72", "0.72", "0.78", "1.00", "1.58", "8.52"),
}
"""Scores by RoboAlign-Judge in the order of DIMENSIONS, and the total (RQ1)."""

DIMENSIONS = (
    "instruction_following",
    "manipulation_success",
    "action_outcome_consistency",
    "temporal_consistency",
    "contact_realism",
    "physics_adherence",
)
"""The paper's dimensions in its order."""

TEXT = (
    "The claims of RoboAlign-R1 beside this run. Rows and columns marked as the paper's are its published numbers, on "
    "RT-1, BridgeData V2, CALVIN and LIBERO, by a fine-tuned 8 B judge. Here robots, models and judges are others, so "
    "compare directions, not sizes."
)


def published_swr(columns: Sequence[tuple[str, str, int]]) -> dict[str, Sequence[str]]:
    """The paper's SWR values of the metrics in `columns`; {} if it has none of them."""
    return {key: PUBLISHED_SWR[key] for key, _, _ in columns if key in PUBLISHED_SWR}


def paper(inputs: Inputs) -> Section:
    """The paper's claims and its main table, beside the results of this run."""
    blocks: list[Block] = [table for table in (claims(inputs), main_table(inputs)) if table.rows]
    return Section("paper", "Beside the paper", [Prose([TEXT]), *blocks] if blocks else [])


def claims(inputs: Inputs) -> Table:
    """One row for each claim that this run measured: the paper's number, and ours with its interval."""
    evaluation, rows = inputs.metrics.get("evaluation"), list[list[Cell]]()

    def claim(question: str, text: str, published: str, cell: Cell) -> None:
        if cell.text != DASH:
            rows.append([Cell(question, text), Cell(published, SOURCE, "muted"), cell])

    for pair in dig(inputs.spec, "evaluation", "aligned") or ():
        name, against = str(dig(pair, "model")), str(dig(pair, "against"))
        for scorer, words in (("held_out", "held-out judge"), ("gold", "gold")):
            difference = dig(evaluation, "differences", name, against, scorer + FAITHFUL, "total")
            base = mean_of(dig(evaluation, "models", against, scorer + FAITHFUL, "total"))
            claim(
                "RQ1: alignment raises the total",
                f"{model(name)} minus {model(against)}, faithful, by {words}",
                "+10.1 %",
                relative(difference, base),
            )
    pair = dig(inputs.spec, "evaluation", "gates", "swr") or {}
    first = str(pair.get("against", "supervised.ar.greedy"))
    second = str(pair.get("model", "supervised.swr.greedy"))
    difference = dig(inputs.metrics, "rollout", second, "less_ar", "psnr")
    claim(
        "RQ3: SWR raises PSNR (dB)",
        f"{model(second)} minus {model(first)}",
        "+0.62",
        estimate(difference, sign=True),
    )
    alpha = dig(inputs.metrics, "drift", "alpha")
    claim(
        "Proposition 1: errors contract",
        "alpha, the factor from frame to frame; below 1 is assumed",
        "below 1",
        estimate(alpha, 3),
    )
    return Table("Claims", ["Claim", "Paper", "This run"], rows, "This run: mean and 95 % interval over episodes.")


def relative(difference: Json, base: float | None) -> Cell:
    """The cell of a difference as a percentage of `base`, with its interval and sample size; empty if either is
    absent."""
    mean, interval = mean_of(difference), bounds(difference)
    if mean is None or interval is None or not base:
        return Cell(DASH)
    low, high = (number(100 * value / base, 1) for value in interval)
    sign = "+" if mean > 0 else ""
    count = dig(difference, "n")
    note = f"{low} to {high} %" + (f" · n = {count}" if count is not None else "")
    return Cell(f"{sign}{number(100 * mean / base, 1)} %", note)


def main_table(inputs: Inputs) -> Table:
    """Absolute scores by the judge in the paper's six dimensions: this run's clip sets, then the paper's rows; empty
    if the reward has other dimensions."""
    models = dig(inputs.metrics, "evaluation", "models") or {}
    names = tuple(str(each["name"]) for each in dimensions(inputs))
    if names != DIMENSIONS:
        return Table("", [], [])
    rows = [
        [
            Cell(model(name), "this run", "muted" if is_bound(name) else ""),
            *(estimate(dig(models, name, "judge", column)) for column in (*names, "total")),
        ]
        for name in sorted(models, key=order)
        if dig(models, name, "judge")
    ]
    if rows:
        rows += [
            [Cell(name, SOURCE, "muted"), *(Cell(value, tone="muted") for value in values)]
            for name, values in PUBLISHED_SCORES.items()
        ]
    return Table(
        "The paper's main table: absolute scores by the judge",
        ["Model", *map(title, names), "Total"],
        rows,
        "Mean and 95 % interval over episodes. Grey: the paper's published scores by its own judge, and bounds that "
        "use true later frames.",
        folded=True,
        fields=("judge.kind", "reward.dimensions"),
    )
