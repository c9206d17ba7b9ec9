"""A spec for a data set that has none: its format is recognised, and a few episodes are read to complete it."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from roboalign.errors import printable
from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.layouts import calvin, lerobot, libero, rlds, videos
from roboalign.sources.inspection.layouts.layout import Column, Layout
from roboalign.sources.inspection.looks import Looks, of_data_set
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.sources.spec import RecordedSpec, SourceSpec
from roboalign.types import Json

LAYOUTS = (rlds, lerobot, calvin, libero, videos)
"""In this order; what marks the first ones is unmistakable."""
TRIED = 5
"""Episodes that are read to complete the spec."""
SCHEMA = "# yaml-language-server: $schema=../.schema/sources.json"
_SPEC: TypeAdapter[Any] = TypeAdapter(SourceSpec)
LENGTH = DatasetSpec.model_fields["length"].default
HEIGHT, WIDTH = 256, 320
"""Of frames, where a spec says nothing."""
SWITCH = re.compile(r"gripper|terminate|mode|done", re.IGNORECASE)
"""Names of actions that are commands, not displacements."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A layout, and the spec that is proposed for it."""

    layout: Layout
    fields: dict[str, Json]
    """What is proposed."""
    comments: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why no episode could be read with it; empty where some could."""

    @property
    def spec(self) -> RecordedSpec | None:
        """The proposed spec; None where no episode could be read with it."""
        if self.problem:
            return None
        found: RecordedSpec = _SPEC.validate_python(self.fields)
        return found

    def text(self) -> str:
        """The YAML file, with what else there is as comments."""
        lines = [SCHEMA, f"# {self.layout.what}."]
        for label, columns in (
            ("cameras", self.layout.cameras),
            ("vectors of each step", self.layout.actions),
            ("instructions", self.layout.instructions),
        ):
            lines += listing(label, columns)
        if self.problem:
            lines += [f"# No episode could be read with this: {' '.join(self.problem.split())}"]
        for key, value in self.fields.items():
            lines += [f"# {self.comments[key]}"] if key in self.comments else []
            if key == "actions":
                lines += ["actions:", *(f"  - {flow(entry)}" for entry in value)]
            else:
                lines.append(f"{key}: {flow(value)}")
        return "\n".join(lines)

    def document(self) -> dict[str, Json]:
        """As JSON."""
        columns = {
            name: {column.key: column.detail for column in found}
            for name, found in (
                ("cameras", self.layout.cameras),
                ("vectors", self.layout.actions),
                ("instructions", self.layout.instructions),
            )
        }
        return {"format": self.layout.what, **columns, "spec": self.fields, "problem": self.problem}


def listing(label: str, columns: Sequence[Column]) -> list[str]:
    """What there is, as comments."""
    if not columns:
        return [f"# {label}: none found"]
    wide = max(len(column.key) for column in columns)
    return [
        f"# {label}:",
        *(printable(f"#   {column.key:<{wide}}  {' '.join(column.detail.split())}".rstrip()) for column in columns),
    ]


def flow(value: Json) -> str:
    """A value as YAML on one line. Texts that any reader of YAML could take for something else are quoted."""
    match value:
        case dict():
            return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(flow(item) for item in value) + "]"
        case bool():
            return str(value).lower()
        case str():
            plain = re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./-]*", value)
            word = value.lower() in ("true", "false", "yes", "no", "on", "off", "y", "n", "null")
            return value if plain and not word else json.dumps(value, ensure_ascii=False)
        case float():
            return f"{value:g}"
    return str(value)


def recognised(files: Files) -> Layout:
    """The layout of a place. Raises SourceError, which names what was looked for, where it is of none."""
    for layout in LAYOUTS:
        found: Layout | None = layout.recognised(files)
        if found is not None:
            return found
    looked = "".join(f"\n  {layout.LOOKED_FOR}" for layout in LAYOUTS)
    try:
        there = sorted(path.rstrip("/").rpartition("/")[2] for path in files.system.ls(files.root, detail=False))
        listed = f"\nthere is: {', '.join(there[:12]) or 'nothing'}" + (" …" if len(there) > 12 else "")
    except NotImplementedError:
        listed = ""
    except OSError as error:
        listed = f"\nit cannot be listed: {error}"
    raise SourceError(f"{files.uri} is in no format that is known; looked for:{looked}{listed}")


def propose(uri: str, options: Mapping[str, bool | int | str], cache: Path) -> Proposal:
    """A spec for the data set at `uri`. Raises SourceError where the format is not known, or the data set lacks what a
    spec needs."""
    layout = recognised(Files.at(uri, options, cache))
    fields = layout.spec(uri)
    if options:
        fields = {key: fields[key] for key in ("kind", "uri")} | {"options": dict(options)} | fields
    for key, columns in (("camera", layout.cameras), ("instruction", layout.instructions), ("actions", layout.actions)):
        if not fields[key]:
            there = ", ".join(column.key for column in columns) or "none"
            raise SourceError(f"{uri}: {layout.what}; but no {key} was found in it (candidates: {there})")
    comments = {"actions": "With a stride, displacements add up; of commands the last counts (skipped: last)."}
    comments |= layout.comments
    try:
        draft: RecordedSpec = _SPEC.validate_python(fields | {"length": 2})
        looks = of_data_set(draft, "source", TRIED, cache)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        raise SourceError(f"{uri}: {layout.what}; but no valid spec can be made for it: {wrong}") from None
    except SourceError as error:
        return Proposal(layout, fields, comments, str(error))
    if not looks.episodes:
        damaged = looks.account.damaged if looks.account else ()
        reason = damaged[0].reason if damaged else "there are none"
        return Proposal(layout, fields, comments, reason)
    complete(fields, comments, looks)
    return Proposal(layout, fields, comments)


def complete(fields: dict[str, Any], comments: dict[str, str], looks: Looks) -> None:
    """Put into a spec what only its episodes tell: which actions are commands, how large and how long they are."""
    names = [entry["key"] for entry in fields["actions"]]
    first = looks.episodes[0].widths
    columns = summarised(looks)
    entries: list[dict[str, Json]] = []
    start = 0
    for name, width in zip(names, first, strict=True):
        entries += divided(name, width, columns[start : start + width])
        start += width
    fields["actions"], fields["action_width"] = entries, start
    high, wide = Counter(look.size for look in looks.episodes).most_common(1)[0][0]
    if high < HEIGHT and wide < WIDTH:
        fields["image"] = {"height": max(16, high // 4 * 4), "width": max(16, wide // 4 * 4)}
        comments["image"] = f"Its pictures are smaller than the {HEIGHT}x{WIDTH} that a spec asks for by itself."
    shortest = min(look.length for look in looks.episodes)
    if shortest < LENGTH:
        fields["length"] = max(2, shortest)
        comments["length"] = "Frames that an episode needs: the shortest of those that were looked at has as many."


def summarised(looks: Looks) -> list[bool]:
    """For each dimension of the actions, whether it has two or three values, like a gripper's command."""
    values: list[set[float]] = [set() for _ in range(looks.episodes[0].actions.shape[1])]
    for look in looks.episodes:
        for index, found in enumerate(values):
            if len(found) <= 3:
                found.update(look.actions[:, index].tolist())
    return [1 < len(found) <= 3 for found in values]


def divided(name: str, width: int, commands: Sequence[bool]) -> list[dict[str, Json]]:
    """The entries of one column: what adds up, and what is a command, each run of dimensions by itself."""
    switch = SWITCH.search(name) is not None
    kinds = [switch or command for command in commands]
    if len(set(kinds)) == 1:
        return [{"key": name, "skipped": "last"} if kinds[0] else {"key": name}]
    entries: list[dict[str, Json]] = []
    for index in range(width):
        if index == 0 or kinds[index] != kinds[index - 1]:
            entries.append({"key": name, "columns": []} | ({"skipped": "last"} if kinds[index] else {}))
        entries[-1]["columns"].append(index)
    return entries
