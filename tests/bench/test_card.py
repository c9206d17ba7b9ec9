import json
from dataclasses import replace

import pytest
from PIL import Image

from roboalign.bench.build import build
from roboalign.bench.card import LIMITS, escape_markdown, write_card
from roboalign.bench.measure import degradation_effects
from roboalign.bench.pairs import Bench
from roboalign.store import EpisodeStore


@pytest.fixture(scope="module")
def bench(tmp_path_factory, labeller, models, corpus) -> Bench:
    path = tmp_path_factory.mktemp("bench")
    return Bench(
        build({"judge": labeller}, models, path / "generated", 10.0)["judge"], corpus, EpisodeStore(path / "generated")
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, labeller, bench):
    path = tmp_path_factory.mktemp("card")
    write_card(path, labeller, bench, degradation_effects(labeller))
    return path


def test_the_card_counts_every_pair(folder, bench):
    tables = {table["title"]: table for table in json.loads((folder / "card.json").read_text())["tables"]}
    for title in ("Pairs by source and origin", "Pairs by split and origin"):
        assert sum(int(row[-1]) for row in tables[title]["rows"]) == len(bench)
    origins = tables["Provenance of the labels"]["rows"]
    assert sum(int(row[1]) for row in origins) == len(bench)
    assert {row[0] for row in origins} == {pair.provenance for pair in bench.pairs}
    assert all(len(row) == len(table["head"]) for table in tables.values() for row in table["rows"])


def test_every_picture_is_there_and_shown(folder, bench):
    pictures = json.loads((folder / "card.json").read_text())["pictures"]
    text = (folder / "README.md").read_text()
    for picture in pictures:
        with Image.open(folder / picture["file"]) as image:
            assert min(image.size) > 100
        assert f"]({picture['file']})" in text
    shown = {picture["file"] for picture in pictures}
    assert {f"{pair.degradation or pair.model}.png" for pair in bench.pairs} - {".png"} <= shown
    assert all(limit in text for limit in LIMITS)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("push the block", "push the block"),
        ("wooden_block of rubric_probed", "wooden_block of rubric_probed"),
        ("a | b", r"a \| b"),
        ("![x](http://a)", r"!\[x\](http://a)"),
        ("<img src=x onerror=y>", r"\<img src=x onerror=y\>"),
        ("*a* _b_ `c` ~d~ &lt; \\", r"\*a\* \_b\_ \`c\` \~d\~ \&lt; \\"),
        ("a\n\n# b\u2028c\x1b[2J", r"a  # b c \[2J"),
    ],
)
def test_text_of_data_sets_is_no_markup(text, escaped):
    assert escape_markdown(text) == escaped


def test_an_instruction_breaks_no_table_or_heading(tmp_path, labeller, bench, monkeypatch):
    hostile = "push |\n\n# Heading <b>"
    pairs = [replace(pair, instruction=hostile) for pair in bench.pairs]
    monkeypatch.setattr(bench, "pairs", pairs)
    write_card(tmp_path, labeller, bench, degradation_effects(labeller))
    text = (tmp_path / "README.md").read_text()
    assert "\n# Heading" not in text
    assert r"push \|  # Heading \<b\>" in text
    assert hostile in json.loads((tmp_path / "card.json").read_text())["pictures"][-1]["note"]


def test_the_same_card_twice(folder, labeller, bench, tmp_path):
    write_card(tmp_path, labeller, bench, degradation_effects(labeller))
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name
