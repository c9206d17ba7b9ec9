"""Which instruction belongs to which video: a table in JSON Lines, JSON or CSV.

```
{"video": "push/0001.mp4", "instruction": "push the block to the mark"}      one a line, in .jsonl
[{"video": …, "instruction": …}, …]  or  {"push/0001.mp4": "push the …"}     in .json
video,instruction                                                            the first line of a .csv (.tsv: tabs)
```

`video` is the path below the folder of videos, with or without its ending. Other keys and columns are not looked at.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from roboalign.io import json_lines, parse_json
from roboalign.types import Json


class InstructionError(ValueError):
    """The table cannot be read; the message names the file, the line and the field."""


def read(path: Path) -> dict[str, str]:
    """The instruction of each video, in the order of the file. Raises InstructionError."""
    readers = {".jsonl": _lines, ".json": _document, ".csv": _table, ".tsv": _table}
    if path.suffix.lower() not in readers:
        raise InstructionError(f"{path}: instructions come as {', '.join(readers)}, not as '{path.suffix}'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InstructionError(f"{path} cannot be read ({error})") from None
    found: dict[str, tuple[str, str]] = {}
    for place, row in readers[path.suffix.lower()](path, text):
        if not isinstance(row, dict):
            raise InstructionError(f"{place}: is no object with the keys video and instruction")
        values = []
        for key in ("video", "instruction"):
            if key not in row:
                raise InstructionError(f"{place}: {key}: is missing; every video needs its instruction")
            value = row[key]
            if not isinstance(value, str) or not value.strip():
                raise InstructionError(f"{place}: {key}: is no text, or empty")
            values.append(value.strip())
        video = values[0].removeprefix("./")
        if video in found:
            raise InstructionError(f"{place}: video: {video} has an instruction at {found[video][0]} already; keep one")
        found[video] = (place, values[1])
    if not found:
        raise InstructionError(f"{path}: holds no instructions")
    return {video: instruction for video, (_, instruction) in found.items()}


def _lines(path: Path, text: str) -> Iterator[tuple[str, Json]]:
    for number, line in json_lines(text):
        place = f"{path}:{number}"
        yield place, _parse(line, place)


def _document(path: Path, text: str) -> Iterator[tuple[str, Json]]:
    value = _parse(text, str(path))
    if isinstance(value, dict):
        value = [{"video": video, "instruction": instruction} for video, instruction in value.items()]
    if not isinstance(value, list):
        raise InstructionError(f"{path}: is neither a list of objects nor one object of instructions by video")
    for number, row in enumerate(value):
        yield f"{path}[{number}]", row


def _parse(text: str, place: str) -> Json:
    try:
        return parse_json(text)
    except ValueError as error:
        raise InstructionError(
            f"{place}: is not JSON ({error}); give objects with the keys video and instruction"
        ) from None


def _table(path: Path, text: str) -> Iterator[tuple[str, Json]]:
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        for row in reader:
            yield f"{path}:{reader.line_num}", {key: value for key, value in row.items() if value is not None}
    except csv.Error as error:
        raise InstructionError(f"{path}:{reader.line_num}: is no line of a table ({error})") from None
