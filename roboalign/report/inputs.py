"""What the page is made from, and what several of its sections need to know of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from roboalign.io import read_json
from roboalign.report.charts import Rows
from roboalign.report.clips import Showcase
from roboalign.report.names import dig
from roboalign.types import Json


@dataclass(frozen=True)
class CardFiles:
    """The bench's data card: its card.json, and its pictures by their file names."""

    text: Json
    pictures: Mapping[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The card in a folder."""
        text = read_json(folder / "card.json")
        return cls(text, {each["file"]: (folder / each["file"]).read_bytes() for each in text["pictures"]})


@dataclass(frozen=True)
class Inputs:
    """All that the page is made of. Names of metrics and curves are those of the files without their ending."""

    spec: Mapping[str, Json]
    """Resolved spec sections by name."""
    spec_text: Mapping[str, str]
    """The same as they stand in their files."""
    metrics: Mapping[str, Json]
    curves: Mapping[str, Rows]
    showcases: Sequence[Showcase] = ()
    fps: float = 10.0
    """Frames a second of the clips."""
    stills: int = 8
    """Stills of a strip."""
    card: CardFiles | None = None
    """The bench's data card."""


def dimensions(inputs: Inputs) -> list[Mapping[str, Json]]:
    """The reward's dimensions in their order, each with its name."""
    found: Mapping[str, Mapping[str, Json]] = dig(inputs.spec, "reward", "dimensions") or {}
    return [{"name": name, **dimension} for name, dimension in found.items()]


def perceptual(inputs: Inputs) -> str:
    """The name of the perceptual distance that was measured."""
    for part in ("rollout", "tokenizer", "world_model"):
        name = dig(inputs.metrics, part, "perceptual_name")
        if isinstance(name, str):
            return name
    return "ST-LPIPS"
