"""What a page is made of: sections of tables, figures, prose and clips. The template only draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "muted", "strong"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, a small second line, and its tone."""

    text: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table. The first cell of each row is its heading; `caption` says what, and over how many episodes. A folded
    table opens on demand."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Chart:
    """A chart, as an `<svg>` element made by `roboalign.report.plots`."""

    caption: str
    svg: str
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Photo:
    """A picture of pixels, as a data URI."""

    caption: str
    uri: str
    note: str = ""
    kind: Literal["photo"] = "photo"


@dataclass(frozen=True)
class Prose:
    """Paragraphs, or the items of a list."""

    paragraphs: Sequence[str]
    listed: bool = False
    kind: Literal["prose"] = "prose"


@dataclass(frozen=True)
class SpecText:
    """Preformatted text that opens on demand."""

    summary: str
    text: str
    kind: Literal["source"] = "source"


@dataclass(frozen=True)
class Film:
    """One episode under several models, as data URIs; `titles` and `scores` head and foot its columns."""

    heading: str
    pick: str
    instruction: str
    titles: Sequence[str]
    scores: Sequence[str]
    animation: str
    still: str
    stills: Sequence[int]
    kind: Literal["film"] = "film"


Block = Table | Chart | Photo | Prose | SpecText | Film


@dataclass(frozen=True)
class Section:
    """One section of the page; `key` is its anchor."""

    key: str
    title: str
    blocks: Sequence[Block]
