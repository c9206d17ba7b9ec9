"""Every shipped spec: valid, known to editors, and robust to any misspelling and to 2,000 random edits."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboalign.spec.check import check
from roboalign.spec.compose import compose, compose_params
from roboalign.spec.diagnostics import Diagnostic, render, sort_diagnostics, to_json
from roboalign.spec.document import COMMAND_LINE, DocumentError, Mapping, Mark, Node, Sequence, parse
from roboalign.spec.experiment import VARIANTS, adapter
from roboalign.spec.library import STUDIES, Library
from roboalign.spec.schema import FOLDER, stale
from roboalign.spec.studies import check_study
from roboalign.spec.validation import validate
from tests.spec.conftest import count_calls

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "specs").glob("*/*.yaml"))
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in [*FILES, "params.yaml"]}


def test_all_shipped_specs_are_valid() -> None:
    assert [render(item) for item in check(Library(ROOT))] == []


def test_the_three_experiments_are_shipped() -> None:
    assert {"smoke", "tiny", "paper"} <= set(Library(ROOT).names("experiments"))


def test_the_paper_experiment_has_the_papers_sizes() -> None:
    paper = compose(Library(ROOT), "paper", COMMAND_LINE).require()
    assert (paper.tokenizer.height, paper.tokenizer.width) == (256, 320)
    assert (paper.tokenizer.context_tokens, paper.tokenizer.dynamics_tokens) == (1280, 80)
    assert (paper.world_model.layers, paper.world_model.hidden_size) == (12, 768)
    assert paper.world_model.frame_tokens(80) == 93
    assert paper.rollout.swr.window == 6
    assert paper.rollout.horizon == 30
    assert set(paper.sources) == {"rt1", "bridge", "calvin", "libero"}
    assert paper.judge.kind == "qwen3_vl"
    assert paper.held_out.kind == "regression"
    assert paper.rl.optimizer.kind == "grpo"
    assert paper.hardware.device.accelerator == "cuda"


def test_the_schemas_are_current() -> None:
    assert stale(ROOT / FOLDER) == [], "run `python -m roboalign schema`"


@pytest.mark.parametrize("name", FILES)
def test_every_file_names_its_schema(name: str) -> None:
    part = name.split("/")[1].replace("experiments", "experiment").replace("studies", "study")
    first = TEXTS[name].split("\n")[0]
    assert first == f"# yaml-language-server: $schema=../.schema/{part}.json"
    assert (ROOT / "specs/.schema" / f"{part}.json").is_file()


def with_text(name: str, text: str) -> list[Diagnostic]:
    """All that is wrong once the file `name` holds `text`; what other files say is left out."""
    library = Library(ROOT)
    try:
        library.documents[name] = parse(text, name)
    except DocumentError as error:
        return [Diagnostic(error.message, error.mark)]
    folder, variant = name.split("/")[-2:] if "/" in name else ("", "")
    found: list[Diagnostic] = []
    if folder in VARIANTS:
        node = library.variant(folder, variant.removesuffix(".yaml"), COMMAND_LINE)
        if node is not None:
            found += validate(adapter(f"{folder}/"), VARIANTS[folder], node)[1]
    elif folder == "experiments":
        found += compose(library, variant.removesuffix(".yaml"), COMMAND_LINE).diagnostics
    elif folder == STUDIES:
        found += check_study(library, variant.removesuffix(".yaml"), COMMAND_LINE)[1]
    else:
        found += compose_params(library).diagnostics
    return sort_diagnostics([*found, *library.diagnostics])


NAMED = ("runs", "dimensions", "decodings", "compared_decodings", "policies")
"""Below these the keys are names of the user's choice."""
FREE = ("attributes", "options")
"""Below these the keys are the data set's or the file system's own words."""


def keys(node: Node, above: str = "") -> Iterator[tuple[str, Mark]]:
    """Every key of a document, segments of dotted ones apart; names of runs, dimensions and the like are free."""
    if isinstance(node, Sequence):
        for item in node.items:
            yield from keys(item)
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            column = entry.key.column
            for segment in key.split(".") if above == "set" else [key]:
                if segment != "*" and not segment.isdecimal() and above not in NAMED:
                    yield segment, Mark(entry.key.source, entry.key.line, column)
                column += len(segment) + 1
            if key not in FREE:
                yield from keys(entry.value, key)


def misspellings(word: str) -> list[str]:
    """One letter left out, doubled, replaced, or swapped with the next: one of each, in the middle of the word."""
    middle = len(word) // 2
    out = [word[:middle] + word[middle + 1 :]] if len(word) > 2 else []
    swapped = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
    return [
        *dict.fromkeys(
            [*out, word[:middle] + word[middle] + word[middle:], word[:middle] + "q" + word[middle + 1 :], swapped]
        )
    ]


CASES = [
    pytest.param(name, word, mark, id=f"{name}:{mark.line + 1}:{word}")
    for name, text in TEXTS.items()
    for word, mark in keys(parse(text, name))
]


@pytest.mark.parametrize(("name", "word", "mark"), CASES)
def test_every_key_misspelled_is_found_at_its_place_with_the_right_key(name: str, word: str, mark: Mark) -> None:
    lines = TEXTS[name].split("\n")
    for wrong in misspellings(word):
        if wrong == word:
            continue
        line = lines[mark.line]
        edited = line[: mark.column] + wrong + line[mark.column + len(word) :]
        found = with_text(name, "\n".join([*lines[: mark.line], edited, *lines[mark.line + 1 :]]))
        here = [
            item
            for item in found
            if (item.mark.source.name, item.mark.line, item.mark.column) == (name, mark.line, mark.column)
        ]
        assert [item.suggestion for item in here] == [word], (wrong, [render(item) for item in found])


TOKENS = [
    "[", "]", "{", "}", ":", ": ", "- ", "#", "&a ", "*a", "!x ", "'", '"', "|", ">", "\t", "\n", "\n  ", " ", "null",
    "no", "1e-4", "-1", "0", "1e400", ".nan", ".inf", "9" * 30, "true", "''", "[]", "{}", "kind: x\n", "a: 1\n",
    "<<: 1\n", "\x00", "é", "😀", "extends: tiny\n", "extends: [a]\n", "%", "@", "---\n", "...\n", "? ",
    "set: {a.b.c: 1}\n", "*",
    "..", ".",
]  # fmt: skip


def mutated(text: str, draw: random.Random) -> str:
    """The text after one to four random edits."""
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(text) + 1)
        lines = text.split("\n")
        match draw.randrange(7):
            case 0:
                text = text[:place] + draw.choice(TOKENS) + text[place:]
            case 1:
                text = text[:place] + text[place + draw.randint(1, 5) :]
            case 2:
                draw.shuffle(lines)
                text = "\n".join(lines)
            case 3:
                lines.insert(draw.randrange(len(lines)), draw.choice(lines))
                text = "\n".join(lines)
            case 4:
                number = draw.randrange(len(lines))
                lines[number] = " " * draw.randint(0, 6) + lines[number].lstrip()
                text = "\n".join(lines)
            case 5:
                number = draw.randrange(len(lines))
                lines[number] = lines[number].split(":")[0] + ": " + draw.choice(TOKENS)
                text = "\n".join(lines)
            case _:
                other = draw.choice(list(TEXTS.values()))
                text = text[:place] + other[draw.randrange(len(other)) :]
    return text


def survives(name: str, text: str) -> None:
    """Everything that reads a spec ends without an exception."""
    found = with_text(name, text)
    for item in found:
        assert item.text.strip()
        assert "\n" not in item.text
        render(item)
    to_json(found)


@pytest.mark.parametrize("seed", range(20))
def test_two_thousand_random_edits_raise_nothing(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(100):
        name = draw.choice(list(TEXTS))
        survives(name, mutated(TEXTS[name], draw))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(TEXTS)), st.randoms(use_true_random=False))
def test_any_edit_raises_nothing(name: str, draw: random.Random) -> None:
    survives(name, mutated(TEXTS[name], draw))


def test_a_check_costs_a_few_thousand_calls_a_file() -> None:
    """What it imports is bounded by tests/test_floors.py; 2,300 calls a file when this was written."""
    check(Library(ROOT))  # builds the validators
    assert count_calls(lambda: check(Library(ROOT))) < 5000 * len(FILES)
