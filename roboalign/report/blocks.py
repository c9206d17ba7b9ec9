"""The elements of a page, which the template renders: sections of tables, charts, images, prose and clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "muted", "strong"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, a small second line, and its tone (colour or weight)."""

    text: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table. The first cell of each row is its heading; `folded` tables are collapsed until they are opened."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Chart:
    """A chart as an `<svg>` element; see `roboalign.report.plots`."""

    caption: str
    svg: str
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Photo:
    """A raster image as a data URI."""

    caption: str
    uri: str
    note: str = ""
    kind: Literal["photo"] = "photo"


@dataclass(frozen=True)
class Prose:
    """Paragraphs, or items of a list if `listed`."""

    paragraphs: Sequence[str]
    listed: bool = False
    kind: Literal["prose"] = "prose"


@dataclass(frozen=True)
class SpecText:
    """Preformatted text, collapsed until it is opened."""

    summary: str
    text: str
    kind: Literal["source"] = "source"


@dataclass(frozen=True)
class ClipComparison:
    """One episode under several models, one column each: an animation and stills as data URIs, with titles above and
    scores below the columns."""

    heading: str
    pick: str
    instruction: str
    titles: Sequence[str]
    scores: Sequence[str]
    animation: str
    still: str
    stills: Sequence[int]
    kind: Literal["clips"] = "clips"


Block = Table | Chart | Photo | Prose | SpecText | ClipComparison


@dataclass(frozen=True)
class Section:
    """A section of the page; `key` is its anchor."""

    key: str
    title: str
    blocks: Sequence[Block]
