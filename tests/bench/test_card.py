import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from roboalign.bench.build import build
from roboalign.bench.card import LIMITS, escape_markdown, write_card
from roboalign.bench.effects import Effect, Example, effects, effects_table
from roboalign.bench.labels import Track
from roboalign.bench.measure import degradation_effects, rubric_on
from roboalign.bench.pairs import Bench
from roboalign.bench.pictures import strip
from roboalign.metrics.statistics import Interval
from roboalign.store import EpisodeStore


@pytest.fixture(scope="module")
def bench(tmp_path_factory, builder, models, corpus) -> Bench:
    path = tmp_path_factory.mktemp("bench")
    return Bench(build(builder, models, path / "generated", 10.0)["judge"], corpus, EpisodeStore(path / "generated"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, builder, bench):
    path = tmp_path_factory.mktemp("card")
    write_card(path, builder, bench, degradation_effects(builder))
    return path


def test_the_card_counts_every_pair(folder, bench):
    tables = {table["title"]: table for table in json.loads((folder / "card.json").read_text())["tables"]}
    for title in ("Pairs by source and origin", "Pairs by split and origin"):
        assert sum(int(row[-1]) for row in tables[title]["rows"]) == len(bench)
    origins = tables["Where the labels come from"]["rows"]
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


def test_an_instruction_breaks_no_table_or_heading(tmp_path, builder, bench, monkeypatch):
    hostile = "push |\n\n# Heading <b>"
    pairs = [replace(pair, instruction=hostile) for pair in bench.pairs]
    monkeypatch.setattr(bench, "pairs", pairs)
    write_card(tmp_path, builder, bench, degradation_effects(builder))
    text = (tmp_path / "README.md").read_text()
    assert "\n# Heading" not in text
    assert r"push \|  # Heading \<b\>" in text
    assert hostile in json.loads((tmp_path / "card.json").read_text())["pictures"][-1]["note"]


def test_the_same_card_twice(folder, builder, bench, tmp_path):
    write_card(tmp_path, builder, bench, degradation_effects(builder))
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


def test_a_strip_shows_as_many_frames_of_each_clip():
    long, short = np.full((12, 32, 40, 3), 200, np.uint8), np.full((5, 32, 40, 3), 100, np.uint8)
    image = strip([long, short], 4)
    assert image.shape == (2 * (128 + 2), 4 * (160 + 2), 3)
    assert (image[:128, -4] == 200).all()
    assert (image[130:258, -4] == 0).all()


def test_effects_tell_what_falls_and_what_should_not(builder, toy_episodes, small, six):
    examples = [Example("toy", "push", Track(e.state, e.keypoints)) for e in toy_episodes]
    found = {(e.degradation, e.dimension): e for e in effects(small, six, examples, builder.limits)}
    assert found["shuffle", "temporal_consistency"].holds
    assert found["swapped_actions", "action_outcome_consistency"].change.mean < -0.3
    assert found["swapped_actions", "temporal_consistency"].change.mean == 0
    assert not found["blur", "physics_adherence"].measured
    assert ("object_teleported", "physics_adherence") not in found  # the toy determines no camera
    assert {e.change.n for e in found.values()} == {len(toy_episodes)}


@pytest.mark.parametrize(
    ("declared", "mean", "high", "holds"),
    [(True, -0.2, -0.1, True), (True, -0.2, 0.01, False), (False, -0.02, 0.0, True), (False, -0.2, -0.1, False)],
)
def test_an_effect_holds_by_its_interval_or_its_tolerance(declared, mean, high, holds):
    change = Interval(mean, mean - 0.05, high, 9)
    effect = Effect("freeze", "physics", change, declared, 0.03, True)
    assert effect.holds == holds
    _, rows = effects_table([effect], ["physics"])
    assert ("✓" in rows[0][3]) == holds


def test_a_change_that_nobody_allowed_is_reported(builder, toy_episodes, small, six):
    strict = small.model_copy(update={"degradations": tuple(
        d.model_copy(update={"lowers": {"instruction_following": 0.1}, "may_lower": {}}) for d in small.degradations
    )})  # fmt: skip
    examples = [Example("toy", "push", Track(e.state, e.keypoints)) for e in toy_episodes]
    found = {(e.degradation, e.dimension): e for e in effects(strict, six, examples, builder.limits)}
    assert not found["shuffle", "temporal_consistency"].holds


def test_the_rubric_is_measured_with_and_without_the_verdict(builder, toy_episodes, six):
    rows = [(e.state, e.policy == "expert") for e in toy_episodes]
    values = rubric_on(six, rows, builder.limits["toy"])
    assert values["manipulation_auc"] == 1
    assert 0.9 < values["manipulation_auc_without_verdict"] <= 1
    assert values["experts"] == sum(e.policy == "expert" for e in toy_episodes)
    assert values["expert_total"] > values["failure_total"]
