"""The recognised layout of a data set, and the choice among its columns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from roboalign.types import Json

VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v")
"""File suffixes of videos."""


@dataclass(frozen=True, slots=True)
class Column:
    """A camera, vector or text of a data set that a spec can name."""

    key: str
    detail: str
    """Size of the column, or an example of its values."""
    width: int = 0
    """Width of a vector; 0 for cameras and texts."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The recognised format of a data set and its columns."""

    kind: str
    what: str
    """Description of the format."""
    cameras: Sequence[Column]
    actions: Sequence[Column]
    """Vectors with one row per step, including the actions."""
    instructions: Sequence[Column]
    chosen: dict[str, Json]
    """Fields of the proposed spec other than camera, instruction and actions."""
    picked: Sequence[str]
    """Keys of the proposed action columns, in order."""
    comments: dict[str, str] = field(default_factory=dict)
    """Comments on the proposed values, by field of the spec."""
    instruction: dict[str, Json] | None = None
    """Proposed `instruction` if no column contains it: field and pattern."""

    @property
    def left_out(self) -> list[Column]:
        """Columns that are named like actions but not proposed."""
        return [column for column in self.actions if ACTION.search(column.key) and column.key not in self.picked]

    @property
    def colour_cameras(self) -> list[str]:
        """Cameras with colour images of the scene: no depth maps, masks, goal images or images of the next step."""
        return [column.key for column in self.cameras if not re.search(NO_COLOUR, column.key, re.IGNORECASE)]

    def spec(self, uri: str) -> dict[str, Json]:
        """Return the proposed fields in the order in which they are written. A missing value is an empty text."""
        widths = {column.key: column.width for column in self.actions}
        return {
            "kind": self.kind,
            "uri": uri,
            "camera": best_column(self.cameras, CAMERA, NO_CAMERA),
            "instruction": best_column(self.instructions, INSTRUCTION, "") or self.instruction or "",
            "actions": [{"key": key} for key in self.picked],
            "action_width": sum(widths.get(key, 0) for key in self.picked),
            **self.chosen,
        }


CAMERA = r"static|agentview|primary|main|top|front|exterior|base|head|image_0|rgb$|image$|video"
"""Name patterns of cameras that see the whole scene, in order of preference."""
NO_CAMERA = r"wrist|gripper|hand|tactile|depth|mask|seg|goal|next_obs"
NO_COLOUR = r"tactile|depth|mask|seg|goal|next_obs"
INSTRUCTION = r"language_instruction|instruction|/lang$|^lang$|^ann$|caption|prompt|text|language|task"


ACTION = re.compile(r"(?:^|[_./])actions?(?:$|[_./])|^rel_actions$", re.IGNORECASE)
"""Name pattern of action columns."""


def pick_actions(columns: Sequence[Column]) -> list[str]:
    """Return the keys of the columns that form the action, in their order.

    This is the column named `action` or `actions`, else all columns below that name, else all that contain it: some
    robots' data sets have one vector per limb.
    """
    keys = [column.key for column in columns if not re.search(r"(?:^|[_./])(?:next|prev)[_./]", column.key)]
    exact = [key for key in keys if key.lower() in ("action", "actions")][:1]
    below = [key for key in keys if re.match(r"actions?[_./]", key, re.IGNORECASE)]
    return exact or below or [key for key in keys if ACTION.search(key)]


def file_words(paths: Sequence[str]) -> dict[str, Json] | None:
    """Return the `instruction` that takes the text from file names without suffix and `_demo`.

    Returns None if a name has fewer than three words.
    """
    stems = [path.rpartition("/")[2].rpartition(".")[0].removesuffix("_demo") for path in paths]
    words = [[word for word in stem.split("_") if word.isalpha() and len(word) > 1] for stem in stems]
    if not stems or any(len(each) < 3 for each in words):
        return None
    return {"field": "file", "pattern": r"(?P<task>[^/]+?)(?:_demo)?\.[a-z0-9]+$"}


def best_column(columns: Sequence[Column], wanted: str, unwanted: str) -> str:
    """Return the key of the best column; '' if there are no columns.

    Args:
        columns: the candidates.
        wanted: alternatives of a regular expression, joined by `|`; earlier ones are preferred.
        unwanted: pattern of names to avoid; empty for none.
    """
    alternatives = wanted.split("|")

    def rank(column: Column) -> tuple[bool, int]:
        matches = [n for n, each in enumerate(alternatives) if re.search(each, column.key, re.IGNORECASE)]
        return bool(unwanted and re.search(unwanted, column.key, re.IGNORECASE)), matches[0] if matches else 99

    return min(columns, key=rank).key if columns else ""


def format_shape(sizes: Sequence[int]) -> str:
    """Format sizes, joined by x; a size that varies (-1) becomes `?`."""
    return "x".join("?" if size < 0 else str(size) for size in sizes)
