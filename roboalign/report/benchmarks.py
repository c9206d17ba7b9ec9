"""The tables of other benchmarks' results."""

from collections.abc import Iterator

from roboalign.report.blocks import Cell, Table
from roboalign.report.names import dig, words
from roboalign.report.tables import estimate
from roboalign.types import Json

NAMES = {
    "worldmodelbench": (
        "WorldModelBench",
        "Higher is better; at most 3, 5 and 2 points, 10 in all. 95 % interval over videos.",
    ),
    "ewmbench": (
        "EWMBench",
        "Means over the trials of each episode, in EWMBench's own metrics; 95 % interval over episodes.",
    ),
}
"""Title and note of each benchmark's table."""


def benchmark_tables(evaluation: Json) -> Iterator[Table]:
    """One table for each benchmark: models by its metrics."""
    for kind, models in sorted((dig(evaluation, "benchmarks") or {}).items()):
        metrics = list(dict.fromkeys(name for values in models.values() for name in values))
        title, note = NAMES[kind]
        yield Table(
            f"{title}, by its own evaluation",
            ["Model", *(words(name) for name in metrics)],
            [
                [Cell(words(model)), *(estimate(values.get(name), 3) for name in metrics)]
                for model, values in sorted(models.items())
            ],
            note,
            folded=True,
            fields=("evaluation.external",),
        )
