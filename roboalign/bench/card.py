"""The data card: the contents of the bench, the provenance of its labels, and their known limits.

```
artifacts/bench/card/README.md       the card
artifacts/bench/card/card.json       its tables and images, for the report: see `DataCard.json`
artifacts/bench/card/*.png           histograms, and a strip of frames for each degradation and world model
```
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roboalign.bench.export import draw_strip, save_png
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.labels import Provenance, Scores
from roboalign.bench.measure import DegradationEffect, effects_table, measure_rubric
from roboalign.bench.pairs import Bench, Pair
from roboalign.io import replacing, write_json, write_text
from roboalign.types import Json

PROVENANCES: dict[Provenance, str] = {
    "rubric": "the rubric over recorded simulator states",
    "full_marks": "no states: a recording has the maximum score by construction",
    "rubric_rearranged": "the rubric over the states in the order that the degraded clip shows",
    "rubric_moved": "the rubric over the states with the object removed or displaced, as the clip shows it",
    "rubric_swapped": "the rubric over recorded states against the outcome of another episode's actions",
    "rubric_declared": "the rubric, lowered by the degradation's declared losses",
    "full_marks_declared": "no states: the maximum score, lowered by the degradation's declared losses",
    "rubric_probed": "the rubric over the states that the state probe perceives in a generated clip, and the distance "
    "for dimensions that depend on appearance",
    "rubric_probed_group": "the rubric over the states that the state probe perceives in a rollout of a group",
    "distance_rule": "a rule, not a measurement: the scores of the true future, lowered by the distance from it",
    "people": "the mean of people's scores",
    "vlm": "the mean of vision-language models' scores",
}
"""Explanations of the provenances."""

LICENCES = (
    "Simulated sources are recorded by this experiment, with Meta-World (MIT), Gymnasium-Robotics (MIT) and dm_control "
    "(Apache-2.0) on MuJoCo (Apache-2.0), and with panda-gym (MIT) on PyBullet (zlib). A data set that was recorded "
    "elsewhere keeps its own licence, and so do the clips made from it."
)
"""Licences of the recordings."""

LIMITS = (
    "Declared losses (blur, noise, flicker, swapped instructions) are our judgement, not a measurement.",
    "Swapped actions are invisible to judges that are shown video and instruction only. These pairs are marked "
    "`judged: false` and by default excluded from the training and the tests of judges. Their reference is the other "
    "episode's motion from this clip's start, which is nearly exact for the gripper and a guess for the object.",
    "A removed object is painted over with its surroundings, so traces of its colour remain near a gripper. A "
    "teleported object is pasted at its own size, without a shadow. Both need recorded keypoints and are never applied "
    "to recordings of real robots.",
    "Success and contact are the simulator's own. The maximum score by the rubric means that no measured quantity is "
    "wrong, not that a person would find no fault.",
    "Labels of generated clips are only as accurate as the state probe, whose errors are in the table above, or, "
    "without a probe, as the distance rule, which does not measure what a clip shows.",
    "The probe measures positions, not appearance. For the dimensions in `appearance_dimensions` of the spec the lower "
    "of the probe's and the distance's score counts, and for dimensions whose slack is too large the distance's score. "
    "Bodies that melt therefore lose score, but a sharp clip of another motion loses some score for physics, too.",
    "In sources without states every recording has the maximum score, including failures, unless annotations replace "
    "it.",
)
"""Known limits of the labels."""


COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73")
"""Colours by Okabe and Ito, which can be told apart with any colour vision."""


@dataclass(frozen=True, slots=True)
class CardTable:
    """A table of the card."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class CardImage:
    """An image of the card; `file` is its name in the card's folder."""

    title: str
    note: str
    file: str


@dataclass(frozen=True, slots=True)
class DataCard:
    """The content of the card."""

    tables: list[CardTable]
    pictures: list[CardImage]
    limits: tuple[str, ...] = LIMITS

    def json(self) -> Json:
        """The form of card.json: {tables: [{title, note, head, rows}], pictures: [{title, note, file}], limits}."""
        return {
            "tables": [asdict(table) for table in self.tables],
            "pictures": [asdict(picture) for picture in self.pictures],
            "limits": list(self.limits),
        }


def write_card(folder: Path, labeller: PairLabeller, bench: Bench, effects: Sequence[DegradationEffect]) -> None:
    """Write the card of a bench into `folder`; `effects` are those of `degradation_effects`."""
    card = DataCard(_tables(labeller, bench.pairs, effects), _draw_images(folder, labeller, bench))
    write_json(folder / "card.json", card.json())
    write_text(folder / "README.md", _to_markdown(card, bench))


def _tables(labeller: PairLabeller, pairs: Sequence[Pair], effects: Sequence[DegradationEffect]) -> list[CardTable]:
    """All tables that have rows."""
    head, rows = effects_table(effects, labeller.reward.names)
    tables = [
        _cross_table("Pairs by source and origin", pairs, "source", "origin"),
        _cross_table("Pairs by split and origin", pairs, "split", "origin"),
        _cross_table("Degraded pairs by kind and split", [p for p in pairs if p.degradation], "degradation", "split"),
        _provenance_table(pairs),
        CardTable(
            "Effects of the degradations, in per cent of the maximum score",
            "Mean changes by the rubric over whole training episodes, each degraded once at a random severity, with "
            "95 % intervals. Bold: declared dimensions, ✓ if the whole interval is below 0. Others: with the "
            "tolerance, ✓ if the mean is within it.",
            head,
            rows,
        ),
        _rubric_table(labeller),
        _source_table(labeller),
        _probe_table(labeller),
    ]
    return [table for table in tables if table.rows]


def _cross_table(title: str, pairs: Sequence[Pair], row: str, column: str) -> CardTable:
    """Counts of pairs by two of their fields."""
    counts = Counter((str(getattr(pair, row)), str(getattr(pair, column))) for pair in pairs)
    columns = list(dict.fromkeys(each for _, each in counts))
    rows = [
        [name, *(str(counts[name, each]) for each in columns), str(sum(counts[name, each] for each in columns))]
        for name in dict.fromkeys(each for each, _ in counts)
    ]
    return CardTable(title, "", [row, *columns, "all"], rows)


def _provenance_table(pairs: Sequence[Pair]) -> CardTable:
    counts = Counter(pair.provenance for pair in pairs)
    rows = [
        [name, str(counts[name]), f"{100 * counts[name] / len(pairs):.1f} %", text]
        for name, text in PROVENANCES.items()
        if counts[name]
    ]
    return CardTable("Provenance of the labels", "", ["provenance", "pairs", "share", "meaning"], rows)


def _rubric_table(labeller: PairLabeller) -> CardTable:
    """The rubric on whole recorded episodes, see `rubric_metrics`."""
    columns = {
        "experts": "experts",
        "expert_total": "mean total",
        "expert_successes": "successful experts",
        "expert_success_total": "mean total",
        "failures": "failures",
        "failure_total": "mean total",
        "manipulation_auc": "AUC",
        "manipulation_auc_without_verdict": "AUC without the success flag",
    }
    rows = [
        [source, *(f"{values[key]:.4g}" if key in values else "" for key in columns)]
        for source, values in measure_rubric(labeller).items()
    ]
    note = (
        "AUC: how well manipulation success separates the simulator's successes from its failures. The rubric reads "
        "the simulator's success flag, so the AUC is 1 by construction; without the flag it depends on positions only."
    )
    return CardTable("The rubric on whole recorded episodes", note, ["source", *columns.values()], rows)


def _source_table(labeller: PairLabeller) -> CardTable:
    rows = []
    for source in labeller.sources:
        infos = [info for info in labeller.infos if info.source == source]
        truth = "simulator states" if any(info.success is not None for info in infos) else "none"
        tasks = ", ".join(dict.fromkeys(info.task for info in infos))
        rows.append([source, str(len(infos)), str(sum(info.length for info in infos)), tasks, truth])
    return CardTable("Sources", LICENCES, ["source", "episodes", "frames", "tasks", "truth"], rows)


def _probe_table(labeller: PairLabeller) -> CardTable:
    """The calibrations of the state probe."""
    rows = [
        [
            source,
            f"{100 * calibration.explained_variance:.0f} %",
            "yes" if source in labeller.trusted_calibrations else "no",
            str(calibration.clips),
            *(f"{value:.2f}" for value in calibration.slack),
        ]
        for source, calibration in labeller.probe_calibrations.items()
    ]
    note = (
        "Explained variance: the share of the variance of gripper and object positions within a task that the probe "
        "explains in true clips, the lower of both; below `min_explained_variance` of the spec the probe labels no "
        "clip of the source. Then the slack: the raw score difference that the probe finds between true clips of "
        "unseen episodes and the tokenizer's reconstructions of them; a generated clip's difference from its true "
        "future counts only beyond it."
    )
    return CardTable(
        "Accuracy of the state probe",
        note,
        [
            "source",
            "explained variance",
            "labels clips",
            "clips",
            *(name.replace("_", " ") for name in labeller.reward.names),
        ],
        rows,
    )


def _draw_images(folder: Path, labeller: PairLabeller, bench: Bench) -> list[CardImage]:
    """Write all images into `folder`."""
    names, scores = labeller.reward.names, bench.scores
    origins: dict[str, Scores] = {
        origin: scores[[pair.origin == origin for pair in bench.pairs]]
        for origin in dict.fromkeys(pair.origin for pair in bench.pairs)
    }
    draw_histograms(folder / "histograms.png", origins, names, labeller.reward.max_scores)
    images = [CardImage("Labels by origin and dimension", "Scores from 0 to the maximum.", "histograms.png")]
    for kind in dict.fromkeys(pair.degradation or pair.model for pair in bench.pairs):
        if kind == "":
            continue
        number = _typical_pair(bench.pairs, kind)
        pair = bench.pairs[number]
        true = labeller.corpus.frames(labeller.numbers[pair.episode], pair.start, pair.stop)
        save_png(folder / f"{kind}.png", draw_strip([true, bench.frames(number)]))
        label = ", ".join(f"{n.replace('_', ' ')} {s:.2f}" for n, s in zip(names, pair.scores, strict=True))
        severity = f"severity {pair.severity:g}; " if pair.degradation else ""
        title = kind.replace("_", " ") if pair.degradation else f"generated by the {kind} world model"
        note = f"{pair.source}, {severity}“{pair.instruction}”; {label} ({pair.provenance}). Top row: as recorded."
        images.append(CardImage(title, note, f"{kind}.png"))
    return images


def _typical_pair(pairs: Sequence[Pair], kind: str) -> int:
    """The index of the pair of a kind with the median severity, or total score if it has no severity; a training pair
    if there is one."""
    rows = [n for n, pair in enumerate(pairs) if kind in (pair.degradation, pair.model)]
    rows = [n for n in rows if pairs[n].split == "train"] or rows
    rows.sort(key=lambda n: (pairs[n].severity, sum(pairs[n].scores), pairs[n].id))
    return rows[len(rows) // 2]


def draw_histograms(
    path: Path, scores: Mapping[str, Scores], names: Sequence[str], max_scores: Sequence[float], bins: int = 10
) -> None:
    """Histograms of scores (N, D) by origin as PNG: one row an origin, one column a dimension and the total."""
    columns = [*names, "total"]
    figure = Figure(figsize=(1.7 * len(columns), 1.25 * len(scores) + 0.4), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(scores), len(columns), squeeze=False)
    for row, (origin, values) in enumerate(scores.items()):
        table = np.concatenate([values, values.sum(1, keepdims=True)], axis=1)
        for column, name in enumerate(columns):
            max_score = [*max_scores, sum(max_scores)][column]
            axis = axes[row][column]
            counts, edges = np.histogram(table[:, column], bins, (0, max_score))
            axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[row % len(COLOURS)])
            axis.set_xlim(0, max_score)
            axis.tick_params(labelsize=6, length=2)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(name.replace("_", "\n", 1).replace("_", " "), fontsize=7)
            if column == 0:
                axis.set_ylabel(f"{origin}\nn = {len(values)}", fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that Markdown reads as markup; an underscore within a word is not markup."""


def escape_markdown(text: str) -> str:
    """Text of a data set, such as an instruction, as one line of Markdown that shows it literally."""
    return MARKUP.sub(lambda match: f"\\{match[0]}", "".join(c if c.isprintable() else " " for c in text))


def _cell(text: str) -> str:
    """A table's cell; `**` around all of it is kept as markup."""
    strong = len(text) > 4 and text.startswith("**") and text.endswith("**")
    return f"**{escape_markdown(text[2:-2])}**" if strong else escape_markdown(text)


def _to_markdown(card: DataCard, bench: Bench) -> str:
    """The card as Markdown."""
    distinct = len({pair.id for pair in bench.pairs})
    hidden = sum(not pair.judged for pair in bench.pairs)
    lines = [
        "# RobotWorldBench: data card",
        "",
        f"{len(bench)} video-instruction pairs, {distinct} of them different, each with a score in "
        f"{bench.scores.shape[1]} dimensions and the provenance of that label. {hidden} pairs have labels that video "
        "and instruction cannot show; judges are neither trained nor tested on them unless the spec includes them.",
        "",
    ]
    for table in card.tables:
        lines += [f"## {table.title}", "", *([table.note, ""] if table.note else [])]
        lines += ["| " + " | ".join(map(_cell, table.head)) + " |", "|" + " --- |" * len(table.head)]
        lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows] + [""]
    for picture in card.pictures:
        title = escape_markdown(picture.title)
        lines += [f"## {title[0].upper()}{title[1:]}", "", escape_markdown(picture.note), "",
                  f"![{title}]({picture.file})", ""]  # fmt: skip
    lines += ["## Known limits", "", *(f"- {limit}" for limit in card.limits), ""]
    return "\n".join(lines)
