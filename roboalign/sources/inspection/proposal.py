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
from roboalign.sources.inspection.action_meaning import SKIPPED, explain
from roboalign.sources.inspection.layouts import aloha, calvin, ctrl_world, lerobot, libero, npz_episodes, rlds, videos
from roboalign.sources.inspection.layouts.layout import Column, Layout
from roboalign.sources.inspection.preview import SourcePreview, preview_data_set
from roboalign.sources.inspection.summary import classify_actions, cut, label_dimensions
from roboalign.sources.inspection.unknown import describe_unknown
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.sources.spec import RecordedSpec, SourceSpec
from roboalign.types import Json

LAYOUTS = (rlds, lerobot, calvin, libero, aloha, ctrl_world, videos, npz_episodes)
"""In this order; what marks the first ones is unmistakable."""
TRIED = 5
"""Episodes that are read to complete the spec."""
SCHEMA = "# yaml-language-server: $schema=../.schema/sources.json"
_SPEC: TypeAdapter[Any] = TypeAdapter(SourceSpec)
LENGTH = DatasetSpec.model_fields["length"].default
HEIGHT, WIDTH = 256, 320
"""Of frames, if a spec says nothing."""
PLACEHOLDER = {"text": "describe here what the robot is asked to do"}
"""Stands for an instruction that a data set does not hold, so that all else can be tried."""
CAMERAS = 9
"""Cameras that a spec can list."""
FIELDS = 12
"""Fields that are listed for an instruction that is missing."""
REMEDIES = {
    "camera": "name the key of the pictures",
    "instruction": "write the text, as here, or name a field and a pattern with named groups, such as "
    "{field: file, pattern: '(?P<task>[^/]+)/[^/]+$'}",
    "actions": "name the columns that make up the action",
}
"""Remedies for fields without a proposal."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A layout, and the spec that is proposed for it."""

    layout: Layout
    fields: dict[str, Json]
    """Proposed values."""
    comments: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why no episode could be read with it; empty if some could."""
    missing: dict[str, str] = field(default_factory=dict)
    """By field for which the data set holds nothing, what else there is."""

    @property
    def spec(self) -> RecordedSpec | None:
        """The proposed spec; None if no episode could be read with it."""
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
            lines += [f"# {line}" for line in self.comments.get(key, "").splitlines()]
            mark = f" # MISSING: {REMEDIES[key]}" if key in self.missing else ""
            if key == "actions" and value:
                lines += ["actions:", *(f"  - {flow(entry)}" for entry in value)]
            else:
                lines.append(f"{key}: {flow(value)}{mark}")
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
        return {
            "format": self.layout.what,
            **columns,
            "spec": self.fields,
            "problem": self.problem,
            "missing": self.missing,
        }


def listing(label: str, columns: Sequence[Column]) -> list[str]:
    """The columns that exist, as comments."""
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


def recognise(files: Files) -> Layout:
    """The layout of a place. Raises SourceError, which names what was looked for, if it is of none."""
    for layout in LAYOUTS:
        found: Layout | None = layout.recognise(files)
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
    raise SourceError(
        f"{files.uri} is in no format that is known; looked for:{looked}{listed}{describe_unknown(files)}"
    )


def propose(uri: str, options: Mapping[str, bool | int | str], cache: Path) -> Proposal:
    """A spec for the data set at `uri`, with what is missing marked. Raises SourceError if the format is not known."""
    layout = recognise(Files.at(uri, options, cache))
    fields = layout.spec(uri)
    if options:
        fields = {key: fields[key] for key in ("kind", "uri")} | {"options": dict(options)} | fields
    missing: dict[str, str] = {}
    for key, columns in (("camera", layout.cameras), ("instruction", layout.instructions), ("actions", layout.actions)):
        if not fields[key]:
            missing[key] = ", ".join(column.key for column in columns) or "none"
    comments = dict(layout.comments)
    if 1 < len(layout.colour_cameras) <= CAMERAS:
        comments["camera"] = f"All cameras in one frame, side by side: camera: {flow(layout.colour_cameras)}"
    if layout.left_out:
        listed = ", ".join(f"{column.key} ({column.detail})" for column in layout.left_out)
        comments["actions"] = f"Not taken, though named like actions: {listed}."
    if "instruction" in missing:
        fields["instruction"] = PLACEHOLDER
    if missing.keys() - {"instruction"}:
        return Proposal(layout, fields, comments, "fill in the lines marked MISSING", missing)
    try:
        preview = look_at(fields, cache)
        if not preview.episodes and isinstance(fields["instruction"], str) and preview.without:
            # All that was looked at lacks an instruction: the rest can be proposed all the same.
            missing["instruction"] = f"'{fields['instruction']}', which is empty"
            fields["instruction"] = PLACEHOLDER
            preview = look_at(fields, cache)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        raise SourceError(f"{uri}: {layout.what}; but no valid spec can be made for it: {wrong}") from None
    except SourceError as error:
        return Proposal(layout, fields, comments, str(error), missing)
    if not preview.episodes:
        damaged = preview.report.damaged if preview.report else ()
        reason = damaged[0].reason if damaged else "there are none"
        return Proposal(layout, fields, comments, reason, missing)
    if "instruction" in missing:
        known = [f"{key}: {cut(value, 60)}" for key, value in preview.episodes[0].attributes.items()]
        comments["instruction"] = "\n".join(["Fields to look for it in:", *(f"  {each}" for each in known[:FIELDS])])
    complete(fields, comments, preview)
    return Proposal(layout, fields, comments, "", missing)


def look_at(fields: dict[str, Json], cache: Path) -> SourcePreview:
    """A few episodes, as a draft reads them. Raises SourceError, and ValidationError if the draft is no valid spec."""
    draft: RecordedSpec = _SPEC.validate_python(fields | {"length": 2})
    return preview_data_set(draft, "source", TRIED, cache)


def complete(fields: dict[str, Any], comments: dict[str, str], preview: SourcePreview) -> None:
    """Put into a spec what only its episodes tell: what the actions mean, how large and how long episodes are."""
    draft: RecordedSpec = _SPEC.validate_python(fields | {"length": 2})
    meanings, labels = classify_actions(draft, preview), label_dimensions(draft, preview)
    entries: list[dict[str, Json]] = []
    start = 0
    for entry, width in zip(fields["actions"], preview.episodes[0].widths, strict=True):
        entries += divide_column(entry["key"], [SKIPPED[each.meaning] for each in meanings[start : start + width]])
        start += width
    fields["actions"], fields["action_width"] = entries, start
    told = [*explain(meanings, labels), *([comments["actions"]] if "actions" in comments else [])]
    told.append("With a stride, displacements add up; of positions and switches the last counts (skipped: last).")
    comments["actions"] = "\n".join(told)
    high, wide = Counter(size for episode in preview.episodes for size in episode.sizes).most_common(1)[0][0]
    if high < HEIGHT and wide < WIDTH:
        fields["image"] = {"height": max(16, high // 4 * 4), "width": max(16, wide // 4 * 4)}
        comments["image"] = f"Its pictures are smaller than the {HEIGHT}x{WIDTH} that a spec asks for by itself."
    shortest = min(episode.length for episode in preview.episodes)
    if shortest < LENGTH:
        fields["length"] = max(2, shortest)
        comments["length"] = "Frames that an episode needs: the shortest of those that were looked at has as many."


def divide_column(name: str, skipped: Sequence[str]) -> list[dict[str, Json]]:
    """The entries of one column, each run of dimensions of one `skipped` by itself; `sum` is the default."""
    if len(set(skipped)) == 1:
        return [{"key": name} | choice_of(skipped[0])]
    entries: list[dict[str, Json]] = []
    for index, kind in enumerate(skipped):
        if index == 0 or kind != skipped[index - 1]:
            entries.append({"key": name, "columns": []} | choice_of(kind))
        entries[-1]["columns"].append(index)
    return entries


def choice_of(skipped: str) -> dict[str, Json]:
    """The field `skipped`, unless it has its default."""
    return {} if skipped == "sum" else {"skipped": skipped}
