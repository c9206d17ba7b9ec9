"""Proposes a spec for a data set: recognises its format and reads a few episodes to complete the fields."""

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
from roboalign.sources.inspection.summary import classify_actions, label_dimensions, shorten
from roboalign.sources.inspection.unknown import describe_unknown
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.sources.spec import RecordedSpec, SourceSpec
from roboalign.types import Json

LAYOUTS = (rlds, lerobot, calvin, libero, aloha, ctrl_world, videos, npz_episodes)
"""Layout modules in the order in which they are tried; the first ones have unambiguous marks."""
TRIED = 5
"""Number of episodes that are read to complete the spec."""
SCHEMA = "# yaml-language-server: $schema=../.schema/sources.json"
_SPEC: TypeAdapter[Any] = TypeAdapter(SourceSpec)
LENGTH = DatasetSpec.model_fields["length"].default
HEIGHT, WIDTH = 256, 320
"""Default height and width of frames."""
PLACEHOLDER = {"text": "describe here what the robot is asked to do"}
"""Placeholder for an instruction that the data set lacks, so that the other fields can be tested."""
CAMERAS = 9
"""Largest number of cameras in a spec."""
FIELDS = 12
"""Largest number of fields that are listed as candidates for a missing instruction."""
REMEDIES = {
    "camera": "name the key of the images",
    "instruction": "write the text, as here, or name a field and a pattern with named groups, such as "
    "{field: file, pattern: '(?P<task>[^/]+)/[^/]+$'}",
    "actions": "name the columns that make up the action",
}
"""Remedy for each field that may be missing."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The recognised layout of a data set and the proposed spec."""

    layout: Layout
    fields: dict[str, Json]
    """Proposed value of each field."""
    comments: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    """Reason why no episode could be read with the proposed spec; empty if at least one could."""
    missing: dict[str, str] = field(default_factory=dict)
    """Candidates for each field that has no proposed value."""

    @property
    def spec(self) -> RecordedSpec | None:
        """The proposed spec; None if no episode could be read with it."""
        if self.problem:
            return None
        found: RecordedSpec = _SPEC.validate_python(self.fields)
        return found

    def text(self) -> str:
        """Return the spec as a YAML file, with the available columns as comments."""
        lines = [SCHEMA, f"# {self.layout.what}."]
        for label, columns in (
            ("cameras", self.layout.cameras),
            ("vectors of each step", self.layout.actions),
            ("instructions", self.layout.instructions),
        ):
            lines += listing(label, columns)
        if self.problem:
            lines += [f"# No episode could be read with this spec: {' '.join(self.problem.split())}"]
        for key, value in self.fields.items():
            lines += [f"# {line}" for line in self.comments.get(key, "").splitlines()]
            mark = f" # MISSING: {REMEDIES[key]}" if key in self.missing else ""
            if key == "actions" and value:
                lines += ["actions:", *(f"  - {flow(entry)}" for entry in value)]
            else:
                lines.append(f"{key}: {flow(value)}{mark}")
        return "\n".join(lines)

    def document(self) -> dict[str, Json]:
        """Return the proposal as a JSON document."""
        columns = {
            name: {column.key: column.detail for column in columns_of_kind}
            for name, columns_of_kind in (
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
    """Return YAML comments that list columns."""
    if not columns:
        return [f"# {label}: none found"]
    wide = max(len(column.key) for column in columns)
    return [
        f"# {label}:",
        *(printable(f"#   {column.key:<{wide}}  {' '.join(column.detail.split())}".rstrip()) for column in columns),
    ]


def flow(value: Json) -> str:
    """Format a value as YAML on one line. Texts that a YAML parser could read as another type are quoted."""
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
    """Recognise the layout of a data set. Raises SourceError, which lists the known formats, if it has none of them."""
    for layout in LAYOUTS:
        recognised: Layout | None = layout.recognise(files)
        if recognised is not None:
            return recognised
    expected = "".join(f"\n  {layout.LOOKED_FOR}" for layout in LAYOUTS)
    try:
        names = sorted(path.rstrip("/").rpartition("/")[2] for path in files.system.ls(files.root, detail=False))
        listing = f"\nit contains: {', '.join(names[:12]) or 'nothing'}" + (" …" if len(names) > 12 else "")
    except NotImplementedError:
        listing = ""
    except OSError as error:
        listing = f"\nit cannot be listed: {error}"
    raise SourceError(f"{files.uri} has no known format; looked for:{expected}{listing}{describe_unknown(files)}")


def propose(uri: str, options: Mapping[str, bool | int | str], cache: Path) -> Proposal:
    """Propose a spec for the data set at `uri`, in which missing fields are marked.

    Raises SourceError if the format is unknown.
    """
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
        comments["actions"] = f"Not used, although named like actions: {listed}."
    if "instruction" in missing:
        fields["instruction"] = PLACEHOLDER
    if missing.keys() - {"instruction"}:
        return Proposal(layout, fields, comments, "fill in the lines marked MISSING", missing)
    try:
        preview = preview_draft(fields, cache)
        if not preview.episodes and isinstance(fields["instruction"], str) and preview.without_instruction:
            # No inspected episode has an instruction; the other fields can still be proposed.
            missing["instruction"] = f"'{fields['instruction']}', which is empty"
            fields["instruction"] = PLACEHOLDER
            preview = preview_draft(fields, cache)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        raise SourceError(f"{uri}: {layout.what}, but the proposed spec is invalid: {wrong}") from None
    except SourceError as error:
        return Proposal(layout, fields, comments, str(error), missing)
    if not preview.episodes:
        damaged = preview.report.damaged if preview.report else ()
        reason = damaged[0].reason if damaged else "there are no episodes"
        return Proposal(layout, fields, comments, reason, missing)
    if "instruction" in missing:
        known = [f"{key}: {shorten(value, 60)}" for key, value in preview.episodes[0].attributes.items()]
        comments["instruction"] = "\n".join(["Candidate fields:", *(f"  {each}" for each in known[:FIELDS])])
    complete(fields, comments, preview)
    return Proposal(layout, fields, comments, "", missing)


def preview_draft(fields: dict[str, Json], cache: Path) -> SourcePreview:
    """Preview a few episodes with a draft of the spec.

    Raises SourceError if they cannot be read, and ValidationError if the draft is invalid.
    """
    draft: RecordedSpec = _SPEC.validate_python(fields | {"length": 2})
    return preview_data_set(draft, "source", TRIED, cache)


def complete(fields: dict[str, Any], comments: dict[str, str], preview: SourcePreview) -> None:
    """Complete a spec by values that depend on the episodes: treatment of skipped actions, image size, minimum
    length."""
    draft: RecordedSpec = _SPEC.validate_python(fields | {"length": 2})
    meanings, labels = classify_actions(draft, preview), label_dimensions(draft, preview)
    entries: list[dict[str, Json]] = []
    start = 0
    for entry, width in zip(fields["actions"], preview.episodes[0].widths, strict=True):
        entries += divide_column(entry["key"], [SKIPPED[each.meaning] for each in meanings[start : start + width]])
        start += width
    fields["actions"], fields["action_width"] = entries, start
    comment_lines = [*explain(meanings, labels), *([comments["actions"]] if "actions" in comments else [])]
    comment_lines.append(
        "With a stride, displacements are summed; of positions and switches the last is used (skipped: last)."
    )
    comments["actions"] = "\n".join(comment_lines)
    high, wide = Counter(size for episode in preview.episodes for size in episode.sizes).most_common(1)[0][0]
    if high < HEIGHT and wide < WIDTH:
        fields["image"] = {"height": max(16, high // 4 * 4), "width": max(16, wide // 4 * 4)}
        comments["image"] = f"The recorded images are smaller than the default of {HEIGHT}x{WIDTH}."
    shortest = min(episode.length for episode in preview.episodes)
    if shortest < LENGTH:
        fields["length"] = max(2, shortest)
        comments["length"] = "Minimum number of frames: that of the shortest inspected episode."


def divide_column(name: str, skipped: Sequence[str]) -> list[dict[str, Json]]:
    """Return the entries of `actions` for one column, one for each run of dimensions with the same `skipped`."""
    if len(set(skipped)) == 1:
        return [{"key": name} | choice_of(skipped[0])]
    entries: list[dict[str, Json]] = []
    for index, kind in enumerate(skipped):
        if index == 0 or kind != skipped[index - 1]:
            entries.append({"key": name, "columns": []} | choice_of(kind))
        entries[-1]["columns"].append(index)
    return entries


def choice_of(skipped: str) -> dict[str, Json]:
    """Return the field `skipped`; empty if it has its default, `sum`."""
    return {} if skipped == "sum" else {"skipped": skipped}
