"""The stage graph of dvc.yaml, read without importing dvc: `foreach`, `matrix` and `${…}` are expanded."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from roboalign.spec.diagnostics import Diagnostic, SpecError
from roboalign.spec.differences import brief
from roboalign.spec.document import DocumentError, Entry, Mapping, Node, Scalar, plain, read
from roboalign.spec.validation import validate

LARGEST = 256 * 1024 * 1024
"""Maximum size of dvc.yaml and dvc.lock in bytes. It is large, because dvc.lock grows with the number of stages."""


class StageEntry(BaseModel):
    """A stage in dvc.yaml; keys that `plan` and `verify` do not read are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    cmd: str | list[str]
    """The command, or several that run one after another."""
    deps: list[str | dict[str, Any]] = []
    params: list[str | dict[str, list[str] | None]] = []
    """Keys of params.yaml, or of other files by name; null takes the whole file."""
    outs: list[str | dict[str, dict[str, Any] | None]] = []
    metrics: list[str | dict[str, dict[str, Any] | None]] = []
    plots: list[str | dict[str, Any]] = []
    wdir: str | None = None


class LoopEntry(BaseModel):
    """A stage of dvc.yaml that is repeated by `foreach`."""

    model_config = ConfigDict(strict=True, extra="ignore")

    foreach: str | list[Any] | dict[str, Any]
    do: StageEntry


STAGE, LOOP = TypeAdapter(StageEntry), TypeAdapter(LoopEntry)


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml, or one item of its `matrix` or `foreach`."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[tuple[str, str], ...]
    """Pairs of a file and a dotted key in it; '' is the whole file."""
    outs: tuple[str, ...]
    cached: frozenset[str] = frozenset()
    """Outputs that DVC stores in its cache."""
    pushed: frozenset[str] = frozenset()
    """Cached outputs that `dvc push` copies to a remote."""


def read_tracked(root: Path, name: str) -> Mapping:
    """Read dvc.yaml or dvc.lock at `root`. Raises SpecError if it is missing or damaged."""
    try:
        return read(root / name, name, size=LARGEST, nodes=10**6)
    except DocumentError as error:
        raise SpecError([Diagnostic(error.message, error.mark)]) from None


def entries(document: Mapping, name: str) -> dict[str, Entry]:
    """The entries of the mapping `stages` of the file `name`. Raises SpecError if it is not a mapping."""
    entry = document.entries.get("stages")
    if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
        return {}
    if not isinstance(entry.value, Mapping):
        raise SpecError([Diagnostic(f"'stages' of {name} must be a mapping of stages by name", entry.key)])
    return entry.value.entries


def parse_entry(adapter: TypeAdapter[Any], kind: type[BaseModel], entry: Entry) -> Any:
    """Validate the entry of a stage as `kind`. Raises SpecError with all errors in it."""
    if not isinstance(entry.value, Mapping):
        raise SpecError([Diagnostic("a stage must be a mapping of `key: value` lines", entry.key)])
    value, diagnostics = validate(adapter, kind, entry.value)
    if value is None:
        raise SpecError(diagnostics)
    return value


def stages(root: Path, params: dict[str, Any]) -> list[Stage]:
    """The stages of dvc.yaml in its order, `${…}` replaced from `params`. Raises SpecError if it cannot be read."""
    result: list[Stage] = []
    for name, entry in entries(read_tracked(root, "dvc.yaml"), "dvc.yaml").items():
        try:
            result += expand_entry(name, entry, params)
        except ValueError as error:
            raise SpecError([Diagnostic(str(error), entry.key)]) from None
    return result


def expand_entry(name: str, entry: Entry, params: dict[str, Any]) -> Iterator[Stage]:
    """The stages of an entry of dvc.yaml: one, or one for each item of its loop. Raises SpecError or ValueError."""
    fields = entry.value.entries if isinstance(entry.value, Mapping) else {}
    if "foreach" in fields:
        loop: LoopEntry = parse_entry(LOOP, LoopEntry, entry)
        for key, item in loop_items(loop.foreach, params):
            yield make_stage(f"{name}@{key}", loop.do, {**params, "item": item, "key": key})
        return
    stage: StageEntry = parse_entry(STAGE, StageEntry, entry)
    if "matrix" not in fields:
        yield make_stage(name, stage, params)
        return
    for key, item in matrix_items(fields["matrix"].value, params):
        yield make_stage(f"{name}@{key}", stage, {**params, "item": item, "key": key})


def loop_items(value: Any, params: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Key and value of each item of a `foreach`. Raises ValueError if it is not a list or mapping."""
    items = fill_in(value, params) if isinstance(value, str) else value
    if isinstance(items, dict):
        yield from items.items()
    elif isinstance(items, list):
        # DVC names the items of a list of scalars by their value, all others by their number.
        plain_list = not any(isinstance(item, dict | list) for item in items)
        yield from ((text_of(item) if plain_list else str(n), item) for n, item in enumerate(items))
    else:
        raise ValueError(f"`foreach` must be a list or a mapping, not {brief(items)}")


def matrix_items(node: Node, params: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and values by axis of each combination of a `matrix`. Raises ValueError if it is not a mapping of lists."""
    value = plain(node)
    axes = {axis: fill_in(each, params) if isinstance(each, str) else each for axis, each in value.items()} if (
        isinstance(value, dict)
    ) else {}  # fmt: skip
    if not axes or not all(isinstance(each, list) for each in axes.values()):
        raise ValueError("`matrix` must be a mapping of lists, such as `source: [fetch, panda]`")
    for combination in product(*(enumerate(each) for each in axes.values())):
        names = [
            f"{axis}{number}" if isinstance(item, dict | list) else text_of(item)
            for axis, (number, item) in zip(axes, combination, strict=True)
        ]
        yield "-".join(names), {axis: item for axis, (_, item) in zip(axes, combination, strict=True)}


def make_stage(name: str, stage: StageEntry, values: dict[str, Any]) -> Stage:
    """One stage with its `${…}` replaced. Raises ValueError if a value is missing, or if the stage sets `wdir`."""
    if stage.wdir not in (None, "."):
        raise ValueError("`wdir` is not supported; write paths relative to the root of the checkout")

    def text(value: str) -> str:
        return text_of(fill_in(value, values))

    pairs: list[tuple[str, str]] = []
    for entry in stage.params:
        for file, keys in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            pairs += [(text(file), text(key)) for key in ([""] if keys is None else keys)]
    outs: dict[str, dict[str, Any]] = {}
    for out in (*stage.outs, *stage.metrics, *stage.plots):
        for path, options in out.items() if isinstance(out, dict) else [(out, None)]:
            outs[text(path)] = options if isinstance(options, dict) else {}
    cached = frozenset(path for path, options in outs.items() if options.get("cache") is not False)
    pushed = frozenset(path for path in cached if outs[path].get("push") is not False)
    deps = [text(path) for dep in stage.deps for path in (dep if isinstance(dep, dict) else [dep])]
    command = stage.cmd if isinstance(stage.cmd, str) else json.dumps(stage.cmd, ensure_ascii=False)
    return Stage(name, text(command), tuple(deps), tuple(pairs), tuple(outs), cached, pushed)


def fill_in(text: str, values: dict[str, Any]) -> Any:
    """`text` with each `${a.b}` replaced by its value; the value itself, of any type, if the text is a single `${a.b}`.

    Raises ValueError if there is no such value.
    """

    def value(path: str) -> Any:
        result: Any = values
        for step in path.split("."):
            if not isinstance(result, dict) or step not in result:
                raise ValueError(f"dvc.yaml: ${{{path}}} is not in params.yaml")
            result = result[step]
        return result

    if whole := re.fullmatch(r"\$\{([\w.]+)\}", text):
        return value(whole[1])
    return re.sub(r"\$\{([\w.]+)\}", lambda match: text_of(value(match[1])), text)


def text_of(value: Any) -> str:
    """A value as DVC inserts it into a template."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
