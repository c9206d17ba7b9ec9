"""The elements of a page, which the template renders: sections of tables, charts, images, prose and clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from roboalign.types import Json

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
    fields: Sequence[str] = ()
    """Spec fields that determine the values, such as `rollout.horizon`; the page links them to the resolved spec."""
    wrapped: bool = False
    """Whether cells are sentences: they wrap, and on narrow screens stand below one another."""
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class LegendEntry:
    """The name of a line or a group in a chart, with its colour."""

    label: str
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart of one or more panels, each an `<svg>` element of `roboalign.report.plots`, with one legend."""

    caption: str
    panels: Sequence[str]
    legend: Sequence[LegendEntry] = ()
    wide: bool = False
    """Whether the panels keep a minimum width and scroll sideways on narrow screens, instead of wrapping."""
    fields: Sequence[str] = ()
    """As in `Table`."""
    note: str = ""
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Photo:
    """A raster image, which is written to `file` in the folder of the report."""

    caption: str
    file: str
    data: bytes
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images, collapsed until the gallery is opened."""

    summary: str
    photos: Sequence[Photo]
    kind: Literal["gallery"] = "gallery"


@dataclass(frozen=True)
class Prose:
    """Paragraphs, or items of a list if `listed`."""

    paragraphs: Sequence[str]
    listed: bool = False
    kind: Literal["prose"] = "prose"


@dataclass(frozen=True)
class KeyFigure:
    """A headline number with its interval; `section` is the anchor of the section that explains it."""

    label: str
    value: str
    note: str
    section: str
    tone: Tone = ""


@dataclass(frozen=True)
class KeyFigures:
    """The headline numbers of the overview."""

    figures: Sequence[KeyFigure]
    kind: Literal["key_figures"] = "key_figures"


@dataclass(frozen=True)
class SpecLine:
    """One line of a resolved spec; `field` is the path of the field that starts on it, '' for none."""

    text: str
    field: str = ""


@dataclass(frozen=True)
class SpecText:
    """One resolved section of the spec, collapsed until it is opened."""

    name: str
    lines: Sequence[SpecLine]
    kind: Literal["spec"] = "spec"


@dataclass(frozen=True)
class ClipViewer:
    """Clips of several models in step. `content` is read by the script of the page; `files` are its images."""

    content: Mapping[str, Json]
    files: Mapping[str, bytes]
    kind: Literal["viewer"] = "viewer"


@dataclass(frozen=True)
class LocalTables:
    """Tables that the script of the page reads from `file` beside it, if it exists; they differ between runs."""

    file: str
    absent: str
    """The text that is shown if the file does not exist."""
    kind: Literal["local"] = "local"


Block = Table | Chart | Gallery | Prose | KeyFigures | SpecText | ClipViewer | LocalTables


@dataclass(frozen=True)
class Section:
    """A section of the page; `key` is its anchor."""

    key: str
    title: str
    blocks: Sequence[Block]
