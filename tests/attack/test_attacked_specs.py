"""Mutated specs and scalars: refused with a place, or read as DVC reads them; never a traceback, never slow."""

import io
import math
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RuamelError

from roboalign.spec.diagnostics import Diagnostic, render, to_json
from roboalign.spec.document import DocumentError, parse, plain
from roboalign.spec.dump import dump
from roboalign.spec.experiment import VARIANTS, adapter
from roboalign.spec.validation import validate
from tests.attack.conftest import SCALE, Tell

SPECS = sorted((path.parent.name, path.read_text()) for part in VARIANTS for path in Path("specs", part).glob("*.yaml"))
VALUES = [
    "null", "~", "[]", "{}", "-1", "0", "1e308", ".inf", ".nan", "0x" + "f" * 150, "true", '""', '"\\e[2J"',
    "'a\nb'", "[[[[1]]]]", "{a: {b: {c: 1}}}", "9" * 60, "2020-01-01", "*a", "&a 1", "!!python/object:a x", "<<",
    "é\u202e", "|\n  text", "- 1", "? x", '"\\ud800"', "1_000", "010", "@x", "%x", "kind: ar", "\t", "\x1b[31m",
    "\u2028", "\ufeff",
]  # fmt: skip
ALPHABET = "0123456789+-._eExXoObBinfINFaAyYtTrRuUeElLnNsS~ :#'\"[]{},&*!|>%@`?=<\\/"


def mutate(text: str, draw: random.Random) -> str:
    """A spec with one to four changes of its values, keys, lines or characters."""
    for _ in range(draw.randint(1, 4)):
        lines = text.split("\n")
        row = draw.randrange(len(lines))
        match draw.randrange(8):
            case 0:
                lines[row] = re.sub(r": .*", lambda _: f": {draw.choice(VALUES)}", lines[row])
            case 1:
                del lines[row]
            case 2:
                lines.insert(row, draw.choice(lines))
            case 3:
                lines[row] = draw.choice([" ", "  ", "\t", "- "]) + lines[row]
            case 4:
                lines[row] = lines[row].replace(":", draw.choice([": ", "", "::", ": {", "_x:"]), 1)
            case 5:
                lines.insert(row, f"{lines[row][: len(lines[row]) - len(lines[row].lstrip())]}{draw.choice(VALUES)}: 1")
            case 6:
                at = draw.randrange(len(lines[row]) + 1)
                lines[row] = lines[row][:at] + draw.choice([*VALUES, *ALPHABET]) + lines[row][at:]
            case _:
                lines = lines[: row + 1]
        text = "\n".join(lines)
    return text


def judged(part: str, text: str) -> list[Diagnostic]:
    """All that is wrong with a spec of a part."""
    try:
        node = parse(text, "spec.yaml")
    except DocumentError as error:
        return [Diagnostic(error.message, error.mark)]
    return validate(adapter(f"{part}/"), VARIANTS[part], node)[1]


def attack_specs(count: int, seed: int) -> Counter[str]:
    """Check mutated specs; how many were refused, how many are valid, and the slowest in milliseconds."""
    draw, figures = random.Random(seed), Counter[str]()
    for _ in range(count):
        part, shipped = draw.choice(SPECS)
        text = mutate(shipped, draw)
        started = time.process_time()
        found = judged(part, text)
        figures["slowest_ms"] = max(figures["slowest_ms"], round(1000 * (time.process_time() - started)))
        figures["refused" if found else "valid"] += 1
        lines = re.split("\r\n|[\r\n]", text)
        for item in found:
            printed = render(item) + to_json([item])
            assert all(c.isprintable() or c in "\n\t" for c in printed), repr(text)
            assert item.mark.line < len(lines), repr(text)
            assert item.mark.column <= len(lines[item.mark.line]) + 1, repr(text)
        if not found:
            value = plain(parse(text, "spec.yaml"))
            assert same(plain(parse(dump(value), "dumped")), value), repr(text)
    return figures


def same(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


def scalars(count: int, seed: int) -> Iterator[str]:
    """Plain scalars that look like numbers, booleans, dates or text."""
    draw = random.Random(seed)
    starts = ["", "0x", "0o", "0b", "-", "+", ".", "1e", "2020-01-0", "tru", ".in", "nul", "1:3", "1_"]
    for _ in range(count):
        yield draw.choice(starts) + "".join(draw.choice(ALPHABET[:55]) for _ in range(draw.randint(0, 6)))


def attack_scalars(count: int, seed: int) -> Counter[str]:
    """Compare scalars with what DVC's reader makes of them; how many agree, and how many are refused here."""
    reader, figures = YAML(typ="safe"), Counter[str]()
    for text in scalars(count, seed):
        try:
            ours = plain(parse(f"a: {text}\n", "f"))
        except DocumentError:
            figures["refused"] += 1
            continue
        try:
            theirs = reader.load(io.StringIO(f"a: {text}\n"))
        except (RuamelError, ValueError):
            raise AssertionError(f"DVC refuses {text!r}, which is read here as {ours!r}") from None
        assert same(ours, theirs), (text, ours, theirs)
        figures["agree"] += 1
    return figures


def test_mutated_specs_short() -> None:
    attack_specs(150, seed=1)


def test_scalars_are_dvcs_short() -> None:
    attack_scalars(300, seed=1)


@pytest.mark.attack
def test_mutated_specs(tell: Tell) -> None:
    tell("specs", **attack_specs(5000 * SCALE, seed=2))


@pytest.mark.attack
def test_scalars_are_dvcs(tell: Tell) -> None:
    tell("scalars", **attack_scalars(10_000 * SCALE, seed=2))
