"""The data card: what is in the bench, where its labels come from, what they can be trusted for, and what not.

```
artifacts/bench/card/README.md       the card
artifacts/bench/card/card.json       its tables and pictures, for the report: see `Card.json`
artifacts/bench/card/*.png           histograms, and a strip for each degradation and world model
```
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.build import Builder
from roboalign.bench.effects import Effect, effects_table
from roboalign.bench.labels import Provenance
from roboalign.bench.measure import rubric
from roboalign.bench.pairs import Bench, Pair
from roboalign.bench.pictures import histograms, save, strip
from roboalign.io import write_json, write_text
from roboalign.types import Json

PROVENANCES: dict[Provenance, str] = {
    "rubric": "the rubric over recorded simulator states",
    "full_marks": "no states: a recording has the maximum score by construction",
    "rubric_rearranged": "the rubric over the states in the order that the spoilt clip shows them",
    "rubric_moved": "the rubric over the states with the object away or elsewhere, as the clip shows them",
    "rubric_swapped": "the rubric over recorded states against the outcome of another episode's actions",
    "rubric_declared": "the rubric, lowered by what the degradation declares",
    "full_marks_declared": "no states: the maximum score, lowered by what the degradation declares",
    "rubric_probed": "the rubric over what the state probe sees in a generated clip, and the distance for its looks",
    "distance_rule": "a rule, no measurement: the true future's scores, lowered by the distance from it",
    "people": "the mean of people's scores",
    "vlm": "the mean of vision-language models' scores",
}
"""What each provenance means."""

LICENCES = (
    "Simulated sources are recorded by this experiment, with Meta-World (MIT), Gymnasium-Robotics (MIT) and dm_control "
    "(Apache-2.0) on MuJoCo (Apache-2.0), and with panda-gym (MIT) on PyBullet (zlib). A data set that was recorded "
    "elsewhere keeps its own licence, and so do the clips made of it."
)
"""Where the recordings come from, and under which licences."""

LIMITS = (
    "Labels by declaration (blur, noise, flicker, swapped instructions) are our judgement of how bad that looks, not a "
    "measurement.",
    "Swapped actions cannot be seen: a judge is shown video and instruction only. These pairs are marked `judged: "
    "false` and by default kept out of the training and the tests of judges. Their reference for the object is the "
    "other episode's motion from this clip's start, which is nearly exact for the gripper and a guess for the object.",
    "A removed object is painted over with its surroundings, so near a gripper traces of its colour remain; a "
    "teleported one is pasted in its own size, without shadow. Both need recorded keypoints and are never applied to "
    "real robots.",
    "Success and contact are the simulator's own; the maximum score by the rubric means that nothing measured is wrong,"
    " not that a person would find nothing.",
    "Labels of generated clips are only as good as the probe, whose errors stand in the table below, or, without a "
    "probe, as the rule of distances, which says nothing of what a clip shows.",
    "The probe sees places, not looks: for the dimensions that the spec names under `looks` the lower one of its "
    "label and the distance's counts, and where it is blind the distance's alone. So bodies that melt lose marks, but "
    "a sharp clip that shows another motion loses some for physics, too.",
    "Sources without states give every recording the maximum score, failed ones too, unless annotations say otherwise.",
)
"""What the labels cannot be trusted for."""


@dataclass(frozen=True, slots=True)
class CardTable:
    """One table of the card."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class CardImage:
    """One picture of the card; `file` lies in the card's folder."""

    title: str
    note: str
    file: str


@dataclass(frozen=True, slots=True)
class DataCard:
    """What the card shows."""

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


def write_card(folder: Path, builder: Builder, bench: Bench, found: Sequence[Effect]) -> DataCard:
    """Write the card of a bench into `folder`; `found` are the effects of the degradations."""
    card = DataCard(_tables(builder, bench.pairs, found), _pictures(folder, builder, bench))
    write_json(folder / "card.json", card.json())
    write_text(folder / "README.md", _markdown(card, bench))
    return card


def _tables(builder: Builder, pairs: Sequence[Pair], found: Sequence[Effect]) -> list[CardTable]:
    """All tables, in their order."""
    head, rows = effects_table(found, builder.reward.names)
    tables = [
        _cross_table("Pairs by source and origin", pairs, "source", "origin"),
        _cross_table("Pairs by split and origin", pairs, "split", "origin"),
        _cross_table("Degraded pairs by kind and split", [p for p in pairs if p.degradation], "degradation", "split"),
        _provenances(pairs),
        CardTable(
            "What each degradation takes, in per cent of the maximum score",
            "By the rubric over whole training episodes, each spoilt once, at drawn severities; with 95 % intervals. "
            "In bold what the degradation should lower, ✓ where the whole interval lies below 0; elsewhere the least "
            "that is tolerated, ✓ where the mean keeps to it.",
            head,
            rows,
        ),
        _rubric(builder),
        _sources(builder),
    ]
    return [table for table in [*tables, _sights(builder)] if table.rows]


def _cross_table(title: str, pairs: Sequence[Pair], row: str, column: str) -> CardTable:
    """Counts of pairs by two of their fields."""
    counts = Counter((str(getattr(pair, row)), str(getattr(pair, column))) for pair in pairs)
    columns = list(dict.fromkeys(each for _, each in counts))
    rows = [
        [name, *(str(counts[name, each]) for each in columns), str(sum(counts[name, each] for each in columns))]
        for name in dict.fromkeys(each for each, _ in counts)
    ]
    return CardTable(title, "", [row, *columns, "all"], rows)


def _provenances(pairs: Sequence[Pair]) -> CardTable:
    counts = Counter(pair.provenance for pair in pairs)
    rows = [
        [name, str(counts[name]), f"{100 * counts[name] / len(pairs):.1f} %", text]
        for name, text in PROVENANCES.items()
        if counts[name]
    ]
    return CardTable("Where the labels come from", "", ["provenance", "pairs", "share", "meaning"], rows)


def _rubric(builder: Builder) -> CardTable:
    """The rubric on whole recorded episodes."""
    columns = {
        "experts": "experts",
        "expert_total": "their mean total",
        "expert_successes": "of them successful",
        "expert_success_total": "their mean total",
        "failures": "failures",
        "failure_total": "their mean total",
        "manipulation_auc": "AUC",
        "manipulation_auc_without_verdict": "AUC without the verdict",
    }
    rows = [
        [source, *(f"{values[key]:.4g}" if key in values else "" for key in columns)]
        for source, values in rubric(builder).items()
    ]
    note = (
        "The AUC tells the simulator's successes from its failures by manipulation success. The rubric reads the "
        "simulator's verdict, so that is 1 by construction; without the verdict it rests on positions alone."
    )
    return CardTable("The rubric on whole recorded episodes", note, ["source", *columns.values()], rows)


def _sources(builder: Builder) -> CardTable:
    rows = []
    for source in builder.sources:
        own = [info for info in builder.infos if info.source == source]
        kind = "simulator states" if any(info.success is not None for info in own) else "none"
        tasks = ", ".join(dict.fromkeys(info.task for info in own))
        rows.append([source, str(len(own)), str(sum(info.length for info in own)), tasks, kind])
    return CardTable("Sources", LICENCES, ["source", "episodes", "frames", "tasks", "truth"], rows)


def _sights(builder: Builder) -> CardTable:
    """What the probe's own errors change in the scores of true clips."""
    names = builder.reward.names
    rows = [
        [
            source,
            f"{100 * own.share:.0f} %",
            "yes" if source in builder.sights else "no",
            str(own.clips),
            *(f"{value:.2f}" for value in own.slack),
        ]
        for source, own in builder.looks.items()
    ]
    note = (
        "`sees`: the share of the variance of gripper's and object's places, within a task, in true clips; below the "
        "spec's `trust` the probe is not asked. Then its slack: raw score that it finds between true clips of unseen "
        "episodes and the same clips as the tokenizer gives them back; a generated clip's difference from its true "
        "future counts only beyond this."
    )
    return CardTable(
        "What the state probe sees",
        note,
        ["source", "sees", "asked", "clips", *(n.replace("_", " ") for n in names)],
        rows,
    )


def _pictures(folder: Path, builder: Builder, bench: Bench) -> list[CardImage]:
    """Draw all pictures."""
    scores = bench.scores
    origins: dict[str, NDArray[np.float64]] = {
        origin: scores[[pair.origin == origin for pair in bench.pairs]]
        for origin in dict.fromkeys(pair.origin for pair in bench.pairs)
    }
    histograms(folder / "histograms.png", origins, builder.reward.names, builder.reward.max_scores)
    pictures = [CardImage("Labels by origin and dimension", "Scores from 0 to the maximum.", "histograms.png")]
    kinds = dict.fromkeys(pair.degradation or pair.model for pair in bench.pairs)
    for kind in kinds:
        if kind == "":
            continue
        number = _typical(bench.pairs, kind)
        pair = bench.pairs[number]
        episode = builder.numbers[pair.episode]
        true = builder.corpus.frames(episode, pair.start, pair.stop)
        save(folder / f"{kind}.png", strip([true, bench.frames(number)]))
        marks = ", ".join(
            f"{n.replace('_', ' ')} {s:.2f}" for n, s in zip(builder.reward.names, pair.scores, strict=True)
        )
        severity = f"severity {pair.severity:g}; " if pair.degradation else ""
        title = kind.replace("_", " ") if pair.degradation else f"generated by the {kind} world model"
        note = f"{pair.source}, {severity}“{pair.instruction}”; {marks} ({pair.provenance}). Above as recorded."
        pictures.append(CardImage(title, note, f"{kind}.png"))
    return pictures


def _typical(pairs: Sequence[Pair], kind: str) -> int:
    """The pair of the kind whose severity, or total score where it has none, is the median; of the training split,
    where this has the kind."""
    rows = [n for n, pair in enumerate(pairs) if kind in (pair.degradation, pair.model)]
    rows = [n for n in rows if pairs[n].split == "train"] or rows
    rows.sort(key=lambda n: (pairs[n].severity, sum(pairs[n].scores), pairs[n].id))
    return rows[len(rows) // 2]


MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that Markdown could take for markup; an underscore within a word is none."""


def escape_markdown(text: str) -> str:
    """Text of a data set, such as an instruction, as one line of Markdown that shows it as it is."""
    return MARKUP.sub(lambda match: f"\\{match[0]}", "".join(c if c.isprintable() else " " for c in text))


def _cell(text: str) -> str:
    """A table's cell; `**` around all of it makes it strong."""
    strong = len(text) > 4 and text.startswith("**") and text.endswith("**")
    return f"**{escape_markdown(text[2:-2])}**" if strong else escape_markdown(text)


def _markdown(card: DataCard, bench: Bench) -> str:
    """The card as Markdown."""
    distinct = len({pair.id for pair in bench.pairs})
    hidden = sum(not pair.judged for pair in bench.pairs)
    lines = [
        "# RobotWorldBench: data card",
        "",
        f"{len(bench)} video-instruction pairs, {distinct} of them different, each with a score in "
        f"{bench.scores.shape[1]} dimensions and the provenance of that label. {hidden} pairs have labels that video "
        "and instruction cannot show; judges neither train nor are tested on them unless the spec says so.",
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
