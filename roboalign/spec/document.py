"""YAML files as nodes that know their file, line and column.

PyYAML's parser gives the events; everything above it (what scalars mean, duplicate keys, tags, anchors, limits) is
decided in this module, so that a file is either read exactly as DVC reads it or rejected with its line and a remedy.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from roboalign.spec.scalars import ScalarError, Value, resolve

PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The event parser: libyaml's if PyYAML was built with it, as its wheels are."""

SIZE = 512 * 1024
"""Maximum size of a file in bytes."""
DEPTH = 32
"""Maximum nesting depth."""
NODES = 20_000
"""Maximum number of nodes of one file; nodes that aliases repeat count each time."""

FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Control characters, and the characters that are line breaks in YAML 1.1 but not in YAML 1.2."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read: its name for messages, and its lines."""

    name: str
    lines: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Mark:
    """A range of a file; lines and columns count from 0, the end is exclusive."""

    source: Source
    line: int = 0
    column: int = 0
    end_line: int = 0
    end_column: int = 0


COMMAND_LINE = Mark(Source(""))
"""The mark of values that come from command-line arguments."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; `quoted` distinguishes the text "6" from the number 6."""

    value: Value
    mark: Mark
    text: str = ""
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: "tuple[Node, ...]"
    mark: Mark


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of a mapping, and the mark of its key."""

    key: Mark
    value: "Node"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping with text keys, in the order of the file."""

    entries: dict[str, Entry]
    mark: Mark


Node = Scalar | Sequence | Mapping


def within(source: Source, line: int, column: int) -> tuple[int, int]:
    """The position, or the end of the last line that is not empty if the position is past the end of the file.

    YAML's parser reports something missing at the end of a file in the line after the last line feed, which editors do
    not show.
    """
    last = len(source.lines) - 1
    while last > 0 and not source.lines[last]:
        last -= 1
    if last < 0:
        return 0, 0
    if line > last:
        line, column = last, len(source.lines[last])
    return line, min(column, len(source.lines[line]))


class DocumentError(Exception):
    """A file that cannot be read as YAML, with one message and its mark."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.message, self.mark = message, mark


def plain(node: Node) -> Any:
    """The node's value as dicts, lists and scalars."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {key: plain(entry.value) for key, entry in node.entries.items()}


def read(path: Path, name: str | None = None, *, size: int = SIZE, nodes: int = NODES) -> Mapping:
    """Read the mapping in the file at `path`; an empty file is an empty mapping.

    Args:
        path: The file.
        name: Its name in errors; the path if None.
        size: Maximum size in bytes.
        nodes: Maximum number of nodes, repetitions by aliases included.

    Raises:
        DocumentError: The file cannot be read, or is not YAML within these limits.
    """
    source = Source(name or path.as_posix())
    try:
        if not path.is_file():
            raise DocumentError("there is no such file" if not path.exists() else "this is not a file", Mark(source))
        with path.open("rb") as file:
            data = file.read(size + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or error}", Mark(source)) from None
    return parse(data, source.name, size=size, nodes=nodes)


def parse(data: bytes | str, name: str, *, size: int = SIZE, nodes: int = NODES) -> Mapping:
    """Parse `data` as one mapping, called `name` in errors. Raises DocumentError."""
    source = Source(name)
    if len(data) > size:
        raise DocumentError(f"the file is larger than {size // 1024} KiB, too large for a spec", Mark(source))
    text = decode(data, source) if isinstance(data, bytes) else data
    source = Source(name, tuple(re.split("\r\n|[\r\n]", text)))
    if forbidden := FORBIDDEN.search(text):
        line, column = position(text, forbidden.start())
        raise DocumentError(
            f"the character U+{ord(forbidden[0]):04X} is not allowed here; remove it, or write it as an escape in "
            f"double quotes",
            Mark(source, line, column, line, column + 1),
        )
    return Composer(text, source, nodes).document()


def decode(data: bytes, source: Source) -> str:
    """The text of a UTF-8 file without its byte order mark. Raises DocumentError on other encodings."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DocumentError("the file is in UTF-16; save it as UTF-8", Mark(source))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = position(data[: error.start].decode("utf-8", "replace"), error.start)
        raise DocumentError(
            "the file is not in UTF-8 from here on; save it as UTF-8", Mark(source, line, column)
        ) from None


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of the character at `offset`, from 0."""
    lines = re.split("\r\n|[\r\n]", text[:offset])
    return len(lines) - 1, len(lines[-1])


class Composer:
    """Builds nodes from the parser's events. The depth is checked at each event, so recursion is bounded."""

    def __init__(self, text: str, source: Source, nodes: int) -> None:
        self.source, self.limit, self.count = source, nodes, 0
        self.anchors: dict[str, tuple[Node, int, int]] = {}
        self.open: list[str] = []
        self.events = self.stream(text)

    def stream(self, text: str) -> Iterator[yaml.Event]:
        """The parser's events. Raises DocumentError for the parser's errors."""
        try:
            parser = PARSER(text)
            while (event := parser.get_event()) is not None:
                yield event
        except yaml.MarkedYAMLError as error:
            raise self.explain(error) from None
        except (yaml.YAMLError, ValueError) as error:
            raise DocumentError(f"not valid YAML: {str(error).splitlines()[0]}", Mark(self.source)) from None

    def explain(self, error: yaml.MarkedYAMLError) -> DocumentError:
        """The parser's error as a message with a remedy, at the place where the faulty construct begins."""

        def at(place: Any, message: str) -> DocumentError:
            line, column = within(self.source, place.line, place.column) if place else (0, 0)
            return DocumentError(message, Mark(self.source, line, column, line, column + 1))

        problem, context = error.problem or "syntax error", error.context or ""
        fault, began = error.problem_mark or error.context_mark, error.context_mark or error.problem_mark
        row = self.source.lines[fault.line] if fault and fault.line < len(self.source.lines) else ""
        if fault and "\t" in row[: fault.column + 1]:
            return at(fault, "a tab where YAML wants spaces; indent with spaces")
        if "mapping values are not allowed" in problem:
            if fault and row[: fault.column].count(":") == 0 and fault.line:
                return at(fault, "wrong indentation, or the line above lacks its ':'")
            return at(fault, "a second ':' on this line; put text that contains ': ' in quotes")
        if "could not find expected ':'" in problem:
            return at(began, "a key without ':'; write `key: value`")
        if "quoted scalar" in context and "end of stream" in problem:
            return at(began, "this quote is not closed")
        if "flow node" in context:
            return at(fault, "a value is missing here, or a bracket above is not closed")
        if "flow sequence" in context or "flow mapping" in context:
            return at(began, f"this '{'[' if 'sequence' in context else '{'}' is not closed, or a ',' is missing in it")
        if "did not find expected key" in problem or "block end" in problem or "'-' indicator" in problem:
            return at(fault, "the indentation does not fit the lines above")
        if "block sequence entries are not allowed" in problem:
            return at(fault, "a list cannot start here; put each '- item' on a line of its own, or write [a, b]")
        if "cannot start any token" in problem:
            shown = row[fault.column : fault.column + 1] if fault else ""
            return at(fault, f"'{shown}' cannot start a value; put the text in quotes")
        return at(fault, f"not valid YAML: {problem} {context}".rstrip())

    def mark(self, event: yaml.Event) -> Mark:
        """The range of an event."""
        start, end = event.start_mark, event.end_mark
        assert start is not None
        assert end is not None
        return Mark(
            self.source, *within(self.source, start.line, start.column), *within(self.source, end.line, end.column)
        )

    def document(self) -> Mapping:
        """The file's only document, which must be a mapping."""
        empty = Mapping({}, Mark(self.source))
        next(self.events)
        event: Any = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return empty
        if event.version or event.tags:
            raise DocumentError("%-directives are not allowed; remove this line", Mark(self.source))
        first = next(self.events)
        node, _, _ = self.node(first, 0)
        next(self.events)
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise DocumentError("a second document starts here; a spec is one document", self.mark(event))
        if isinstance(node, Scalar) and node.value is None and not node.quoted:
            return empty
        if not isinstance(node, Mapping):
            raise DocumentError("a spec is a mapping of `key: value` lines", node.mark)
        return node

    def node(self, event: yaml.Event, depth: int) -> tuple[Node, int, int]:
        """The node that starts with `event`, the number of nodes in it, and its height."""
        mark = self.mark(event)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, depth, mark)
        self.spend(1, mark)
        if event.tag is not None:  # type: ignore[attr-defined]
            raise DocumentError(f"the tag '{event.tag}' is not allowed; remove it", mark)  # type: ignore[attr-defined]
        anchor: str | None = event.anchor  # type: ignore[attr-defined]
        if isinstance(event, yaml.ScalarEvent):
            result: tuple[Node, int, int] = (self.scalar(event, mark), 1, 1)
        else:
            if depth >= DEPTH:
                raise DocumentError(f"nested deeper than {DEPTH} levels", mark)
            if anchor is not None:
                self.open.append(anchor)
            parts = self.sequence if isinstance(event, yaml.SequenceStartEvent) else self.mapping
            result = parts(mark, depth)
            if anchor is not None:
                self.open.remove(anchor)
        if anchor is not None:
            if anchor in self.anchors:
                raise DocumentError(f"the anchor '&{anchor}' is defined twice; rename one", mark)
            self.anchors[anchor] = result
        return result

    def alias(self, event: yaml.AliasEvent, depth: int, mark: Mark) -> tuple[Node, int, int]:
        """The node that an alias repeats; its nodes are counted again."""
        if event.anchor in self.open:
            raise DocumentError(f"'*{event.anchor}' is inside the value that it repeats", mark)
        if event.anchor not in self.anchors:
            raise DocumentError(f"'*{event.anchor}' refers to no anchor above; write `&{event.anchor}` there", mark)
        node, count, height = self.anchors[event.anchor]
        self.spend(count, mark)
        if depth + height > DEPTH:
            raise DocumentError(f"nested deeper than {DEPTH} levels", mark)
        return node, count, height

    def spend(self, count: int, mark: Mark) -> None:
        """Count nodes before they are built. Raises DocumentError above the limit."""
        self.count += count
        if self.count > self.limit:
            raise DocumentError(f"more than {self.limit} values in one file, repeated ones counted each time", mark)

    def scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Scalar:
        """A scalar with its YAML 1.2 value; quoted scalars are text."""
        if event.style:
            return Scalar(event.value, mark, event.value, quoted=True)
        try:
            return Scalar(resolve(event.value), mark, event.value)
        except ScalarError as error:
            raise DocumentError(str(error), mark) from None

    def sequence(self, mark: Mark, depth: int) -> tuple[Node, int, int]:
        """A list up to its end event, the number of nodes in it, and its height."""
        items, total, height = [], 1, 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            node, count, tall = self.node(event, depth + 1)
            items.append(node)
            total, height = total + count, max(height, tall)
        whole = self.stretch_to_end(mark, event, items[-1].mark if items else None)
        return Sequence(tuple(items), whole), total, height + 1

    def mapping(self, mark: Mark, depth: int) -> tuple[Node, int, int]:
        """A mapping up to its end event, the number of nodes in it, and its height. Raises DocumentError on keys that
        are not text or occur twice."""
        entries: dict[str, Entry] = {}
        total, height, last = 1, 0, None
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, _, _ = self.node(event, depth + 1)
            if not isinstance(key, Scalar) or not isinstance(key.value, str):
                raise DocumentError("a key must be text; put it in quotes", key.mark)
            if key.value in entries:
                line = entries[key.value].key.line + 1
                raise DocumentError(f"the key '{key.value}' occurs twice, first in line {line}", key.mark)
            node, count, tall = self.node(next(self.events), depth + 1)
            entries[key.value] = Entry(key.mark, node)
            total, height, last = total + count + 1, max(height, tall), node.mark
        return Mapping(entries, self.stretch_to_end(mark, event, last)), total, height + 1

    def stretch_to_end(self, mark: Mark, end: yaml.Event, last: Mark | None) -> Mark:
        """The range from `mark` to the closing bracket, or to the end of the last item if there are no brackets."""
        stop = self.mark(end)
        if (stop.line, stop.column) == (stop.end_line, stop.end_column) and last is not None:
            return Mark(self.source, mark.line, mark.column, last.end_line, last.end_column)
        return Mark(self.source, mark.line, mark.column, stop.end_line, stop.end_column)
