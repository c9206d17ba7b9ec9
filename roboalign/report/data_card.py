"""The section on the data: recorded episodes and the bench's data card."""

from collections.abc import Mapping, Sequence

from roboalign.report import tables
from roboalign.report.blocks import Block, Cell, Gallery, Photo, Prose, Section, Table
from roboalign.report.inputs import CardFiles, Inputs, dimensions
from roboalign.report.names import dig, significant, title
from roboalign.report.plots import histograms
from roboalign.types import Json

UNFOLDED = 8
"""Maximum number of rows of a table of the card that is not folded."""


def data_card(inputs: Inputs) -> Section:
    """Numbers of episodes by source, the bench's pairs and labels, and the bench's data card."""
    blocks: list[Block] = []
    by_source = dig(inputs.metrics, "sources", "sources") or inputs.metrics.get("sources")
    if isinstance(by_source, Mapping) and any(isinstance(value, Mapping) for value in by_source.values()):
        blocks.append(tables.grid("Recorded episodes by source", by_source, "Source"))
    bench = inputs.metrics.get("bench")
    if bench:
        counts = [
            (title(key), list(map(str, value)), [float(item) for item in value.values()])
            for key in ("by_source", "by_origin")
            if isinstance(value := dig(bench, key), Mapping) and all(isinstance(v, int | float) for v in value.values())
        ]
        if counts:
            caption = f"RobotWorldBench: {significant(dig(bench, 'pairs'))} pairs"
            blocks.append(histograms(caption, counts, "counts", ("bench.pairs", "bench.groups")))
        bars = [
            histogram
            for dimension in dimensions(inputs)
            if (histogram := _histogram(str(dimension["name"]), float(dimension["max_score"]), bench)) is not None
        ]
        if bars:
            caption = "Labels by dimension: number of pairs by score; bars show their lower edges"
            blocks.append(histograms(caption, bars, "labels", ("bench.degradations", "reward.dimensions", "rubric")))
        if isinstance(values := dig(bench, "mean_total_by_origin"), Mapping):
            blocks.append(tables.flat("Mean total label by origin", values))
    if inputs.card is not None:
        blocks += card_blocks(inputs.card)
    return Section("data", "Data card", blocks)


def card_blocks(card: CardFiles) -> list[Block]:
    """The content of the bench's data card: tables, example images, limits. `**` around a cell's text makes it bold."""
    blocks: list[Block] = []
    for each in card.text["tables"]:
        rows = [[_cell(text) for text in row] for row in each["rows"]]
        blocks.append(Table(each["title"], each["head"], rows, each["note"], folded=len(rows) > UNFOLDED))
    photos = [
        Photo(each["title"], f"images/{each['file']}", card.pictures[each["file"]], each["note"])
        for each in card.text["pictures"]
    ]
    if photos:
        blocks.append(
            Gallery(f"Examples of every kind of clip, and histograms of labels: {len(photos)} images", photos)
        )
    blocks += [Prose(["Known limits:"]), Prose(card.text["limits"], listed=True)]
    return blocks


def _cell(text: str) -> Cell:
    strong = text.startswith("**")
    return Cell(text.replace("**", ""), tone="strong" if strong else "")


def _histogram(name: str, max_score: float, bench: Json) -> tuple[str, list[str], list[float]] | None:
    """Name, lower edges and counts of a dimension's equal-width bars from 0 to its maximum; None without labels."""
    counts = dig(bench, "dimensions", name, "histogram")
    if not isinstance(counts, Sequence) or isinstance(counts, str) or not counts:
        return None
    # Only every second edge has a label, so that labels do not overlap.
    edges = [f"{max_score * number / len(counts):.3g}" if number % 2 == 0 else "" for number in range(len(counts))]
    return title(name), edges, [float(count) for count in counts]
