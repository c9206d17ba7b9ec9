"""The recognised layout of a place without a spec, and the choice among its columns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from roboalign.types import Json

VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v")
"""Endings of videos' names."""


@dataclass(frozen=True, slots=True)
class Column:
    """Something that a spec could name."""

    key: str
    detail: str
    """Its size, or an example."""
    width: int = 0
    """Of actions: numbers a step."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A data set whose format is known."""

    kind: str
    what: str
    """The format and the place, in words."""
    cameras: Sequence[Column]
    actions: Sequence[Column]
    """Vectors a step; the actions are among them."""
    instructions: Sequence[Column]
    chosen: dict[str, Json]
    """Fields of the proposed spec beside camera, instruction and actions."""
    picked: Sequence[str]
    """The keys of the actions that are proposed, in order."""
    comments: dict[str, str] = field(default_factory=dict)
    """By field of the spec, what to know about the proposed value."""
    instruction: dict[str, Json] | None = None
    """How to state the instruction if no column holds it: field and pattern."""

    @property
    def left_out(self) -> list[Column]:
        """The columns that look like actions and are not among those that are proposed."""
        return [column for column in self.actions if ACTION.search(column.key) and column.key not in self.picked]

    @property
    def colour_cameras(self) -> list[str]:
        """The cameras that can be shown together: all but depth maps, masks, goals and the next step's pictures."""
        return [column.key for column in self.cameras if not re.search(NO_COLOUR, column.key, re.IGNORECASE)]

    def spec(self, uri: str) -> dict[str, Json]:
        """The proposed fields, in the order in which they are written. Empty texts stand for what was not found."""
        widths = {column.key: column.width for column in self.actions}
        return {
            "kind": self.kind,
            "uri": uri,
            "camera": best(self.cameras, CAMERA, NO_CAMERA),
            "instruction": best(self.instructions, INSTRUCTION, "") or self.instruction or "",
            "actions": [{"key": key} for key in self.picked],
            "action_width": sum(widths.get(key, 0) for key in self.picked),
            **self.chosen,
        }


CAMERA = r"static|agentview|primary|main|top|front|exterior|base|head|image_0|rgb$|image$|video"
"""Names of cameras that see the whole scene."""
NO_CAMERA = r"wrist|gripper|hand|tactile|depth|mask|seg|goal|next_obs"
NO_COLOUR = r"tactile|depth|mask|seg|goal|next_obs"
INSTRUCTION = r"language_instruction|instruction|/lang$|^lang$|^ann$|caption|prompt|text|language|task"


ACTION = re.compile(r"(?:^|[_./])actions?(?:$|[_./])|^rel_actions$", re.IGNORECASE)
"""Names of columns with actions."""


def pick_actions(columns: Sequence[Column]) -> list[str]:
    """The columns that make up the action, in their order: the one of that name, or all whose name begins with it or
    holds it, for robots whose data sets keep one vector a limb."""
    keys = [column.key for column in columns if not re.search(r"(?:^|[_./])(?:next|prev)[_./]", column.key)]
    exact = [key for key in keys if key.lower() in ("action", "actions")][:1]
    below = [key for key in keys if re.match(r"actions?[_./]", key, re.IGNORECASE)]
    return exact or below or [key for key in keys if ACTION.search(key)]


def file_words(paths: Sequence[str]) -> dict[str, Json] | None:
    """The pattern that finds the instruction in the names of files, if these are made of words: the name without its
    ending and without `_demo`; None if they are not."""
    stems = [path.rpartition("/")[2].rpartition(".")[0].removesuffix("_demo") for path in paths]
    words = [[word for word in stem.split("_") if word.isalpha() and len(word) > 1] for stem in stems]
    if not stems or any(len(each) < 3 for each in words):
        return None
    return {"field": "file", "pattern": r"(?P<task>[^/]+?)(?:_demo)?\.[a-z0-9]+$"}


def best(columns: Sequence[Column], wanted: str, unwanted: str) -> str:
    """The key that is most likely meant: the one whose name the earliest alternative of `wanted` is found in, and
    `unwanted` is not; '' if there is none."""
    alternatives = wanted.split("|")

    def rank(column: Column) -> tuple[bool, int]:
        found = [n for n, each in enumerate(alternatives) if re.search(each, column.key, re.IGNORECASE)]
        return bool(unwanted and re.search(unwanted, column.key, re.IGNORECASE)), found[0] if found else 99

    return min(columns, key=rank).key if columns else ""


def shape(sizes: Sequence[int]) -> str:
    """Sizes, joined by x; `?` if one varies."""
    return "x".join("?" if size < 0 else str(size) for size in sizes)
