"""Reads the instructions of videos from a table in JSON Lines, JSON or CSV.

```
{"video": "push/0001.mp4", "instruction": "push the block to the mark"}      one object on each line of a .jsonl
[{"video": …, "instruction": …}, …]  or  {"push/0001.mp4": "push the …"}     in a .json
video,instruction                                                            the first line of a .csv (.tsv: tabs)
```

`video` is the path below the folder of videos, with or without extension. Other keys and columns are ignored.
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
    """Read the instruction of each video, in the order of the file. Raises InstructionError if it is not valid."""
    readers = {".jsonl": _lines, ".json": _document, ".csv": _table, ".tsv": _table}
    if path.suffix.lower() not in readers:
        raise InstructionError(f"{path}: instructions must be in a {', '.join(readers)} file, not '{path.suffix}'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InstructionError(f"{path} cannot be read ({error})") from None
    instructions: dict[str, tuple[str, str]] = {}
    for place, row in readers[path.suffix.lower()](path, text):
        if not isinstance(row, dict):
            raise InstructionError(f"{place}: is not an object with the keys video and instruction")
        values = []
        for key in ("video", "instruction"):
            if key not in row:
                raise InstructionError(f"{place}: {key}: is missing; every video needs its instruction")
            value = row[key]
            if not isinstance(value, str) or not value.strip():
                raise InstructionError(f"{place}: {key}: must be text that is not empty")
            values.append(value.strip())
        video = values[0].removeprefix("./")
        if video in instructions:
            raise InstructionError(
                f"{place}: video: {video} already has an instruction at {instructions[video][0]}; remove one"
            )
        instructions[video] = (place, values[1])
    if not instructions:
        raise InstructionError(f"{path}: has no instructions")
    return {video: instruction for video, (_, instruction) in instructions.items()}


def _lines(path: Path, text: str) -> Iterator[tuple[str, Json]]:
    """Place and value of each line of a .jsonl file."""
    for number, line in json_lines(text):
        place = f"{path}:{number}"
        yield place, _parse(line, place)


def _document(path: Path, text: str) -> Iterator[tuple[str, Json]]:
    """Place and value of each entry of a .json file."""
    value = _parse(text, str(path))
    if isinstance(value, dict):
        value = [{"video": video, "instruction": instruction} for video, instruction in value.items()]
    if not isinstance(value, list):
        raise InstructionError(f"{path}: must be a list of objects, or one object of instructions by video")
    for number, row in enumerate(value):
        yield f"{path}[{number}]", row


def _parse(text: str, place: str) -> Json:
    try:
        return parse_json(text)
    except ValueError as error:
        raise InstructionError(
            f"{place}: is not valid JSON ({error}); write objects with the keys video and instruction"
        ) from None


def _table(path: Path, text: str) -> Iterator[tuple[str, Json]]:
    """Place and value of each row of a .csv or .tsv file."""
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        for row in reader:
            yield f"{path}:{reader.line_num}", {key: value for key, value in row.items() if value is not None}
    except csv.Error as error:
        raise InstructionError(f"{path}:{reader.line_num}: is not a valid row ({error})") from None
