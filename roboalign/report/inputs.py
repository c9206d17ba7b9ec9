"""The inputs of the page, and values that several sections derive from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from roboalign.io import read_json
from roboalign.report.charts import Rows
from roboalign.report.names import dig
from roboalign.report.showcases import Showcase
from roboalign.types import Json


@dataclass(frozen=True)
class CardFiles:
    """The bench's data card: card.json and its images by file name."""

    text: Json
    pictures: Mapping[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the card in a folder."""
        text = read_json(folder / "card.json")
        return cls(text, {each["file"]: (folder / each["file"]).read_bytes() for each in text["pictures"]})


@dataclass(frozen=True)
class Inputs:
    """The inputs of the page. Metrics and curves are named by their files without extension."""

    spec: Mapping[str, Json]
    """Resolved spec sections by name."""
    spec_text: Mapping[str, str]
    """Text of the section files by name."""
    metrics: Mapping[str, Json]
    curves: Mapping[str, Rows]
    showcases: Sequence[Showcase] = ()
    fps: float = 10.0
    """Frames per second of the clips."""
    card: CardFiles | None = None
    """The bench's data card."""
    policy_showcases: Sequence[Showcase] = ()
    """Episodes of policies in the simulators and in the world models."""
    scores: Rows = ()
    """Scores of all clips, one row for each clip set, scorer, episode and sample."""


def dimensions(inputs: Inputs) -> list[Mapping[str, Json]]:
    """The reward's dimensions in order, each as a mapping with its `name`."""
    by_name: Mapping[str, Mapping[str, Json]] = dig(inputs.spec, "reward", "dimensions") or {}
    return [{"name": name, **dimension} for name, dimension in by_name.items()]


def perceptual(inputs: Inputs) -> str:
    """The name of the perceptual distance that was measured."""
    for part in ("rollout", "tokenizer", "world_model"):
        name = dig(inputs.metrics, part, "perceptual_name")
        if isinstance(name, str):
            return name
    return "Perceptual distance"


def sample_size(metrics: Json) -> str:
    """The sample size for a caption, `, n = 48 episodes`; '' if it is not known."""
    count = dig(metrics, "n") or dig(metrics, "episodes")
    return f", n = {count} episodes" if isinstance(count, int) else ""
