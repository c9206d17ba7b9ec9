"""The page: complete, offline, the same bytes each time, and whole also where figures are absent."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from roboalign.evaluation.gates import gates as evaluation_gates
from roboalign.evaluation.spec import EvaluationSpec
from roboalign.report.gates import MEANINGS
from roboalign.report.inputs import Inputs
from roboalign.report.names import MINUS
from roboalign.report.page import Page, render

LOADING = {"src", "href", "srcset", "poster", "data", "action", "background", "xlink:href"}


class Reader(HTMLParser):
    """Collects what a page would load, its scripts, its headings, and tags left open."""

    VOID = frozenset(("meta", "img", "br", "link", "input"))

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0
        self.sections: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        self.scripts += tag == "script"
        self.sections += [value or "" for name, value in attrs if tag == "section" and name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in LOADING]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def page(full_page: Page) -> str:
    return full_page.html


def test_every_section_is_there(page: str) -> None:
    assert read(page).sections == [
        "overview", "rollouts", "scores", "swr", "drift", "paper", "alignment", "groups", "reward", "probe", "training",
        "data", "not-measured", "spec", "provenance",
    ]  # fmt: skip


def test_nothing_is_loaded_from_outside_the_folder(page: str, full_page: Page) -> None:
    reader = read(page)
    assert reader.scripts == 2, "the content of the viewer, and the script of the page"
    beside = {load for load in reader.loads if not load.startswith("#") and load != "data:,"}
    assert beside == {"images/freeze.png"}
    assert beside < set(full_page.files)
    style = re.sub(r'xmlns="http://www.w3.org/2000/svg"', "", page)
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|@font-face", style)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_charts_refer_only_to_what_the_page_holds(page: str) -> None:
    names = set(re.findall(r'\bid="([^"]+)"', page))
    targets = set(re.findall(r"url\(#([^)]*)\)", page)) | set(re.findall(r'href="#([^"]+)"', page))
    assert targets
    assert targets <= names


@pytest.mark.usefixtures("undrawn")
def test_the_same_inputs_give_the_same_bytes(full_inputs: Inputs) -> None:
    assert render(full_inputs) == render(full_inputs)


def test_gates_show_their_verdicts(page: str) -> None:
    text = " ".join(read(page).texts)
    assert "3 passed, 1 failed, 1 not measured" in text
    assert re.search(r"SWR above AR\s+failed", text)
    assert re.search(
        r"Aligned above supervised gold\s+not measured\s+The simulator's rubric[^.]*\.[^.]*\.\s+Needs gold", text
    )


def test_figures_of_a_gate_stand_as_intervals(page: str) -> None:
    text = " ".join(read(page).texts)
    assert "8 frames: 0.42 (0.36 to 0.48 · n = 48) · best of 16, 8 frames: 0.4 (0.2 to 0.6)" in text
    assert f"Aligned · SWR · greedy PSNR: 0.1 ({MINUS}0.1 to 0.3)" in text


def test_figures_stand_with_interval_and_sample_size(page: str) -> None:
    text = " ".join(read(page).texts)
    assert "Judge, faithful: scores by dimension, n = 24 episodes" in text
    assert "minus Supervised · best of 4 by the student (the strongest baseline)" in text
    assert "ST-LPIPS" in text
    assert "aligned.ar.sampled against supervised.ar.sampled" in text


@pytest.mark.usefixtures("undrawn")
def test_the_real_perceptual_metric_is_named(full_inputs: Inputs) -> None:
    metrics: dict[str, Any] = {**full_inputs.metrics}
    metrics["rollout"] = metrics["rollout"] | {"perceptual_name": "LPIPS"}
    text = " ".join(read(render(replace(full_inputs, metrics=metrics, curves={}, showcases=())).html).texts)
    assert "LPIPS" in text
    assert "ST-LPIPS" not in text


@pytest.mark.parametrize(
    "absent",
    [
        "tokenizer",
        "probe/judge",
        "bench",
        "judge",
        "held_out",
        "student",
        "rl",
        "rollout",
        "evaluation",
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_the_page_stands_without_one_file(full_inputs: Inputs, absent: str) -> None:
    metrics = {name: value for name, value in full_inputs.metrics.items() if name != absent}
    reader = read(render(replace(full_inputs, metrics=metrics, curves={}, showcases=())).html)
    assert "not-measured" in reader.sections


def test_the_page_stands_with_nothing_measured() -> None:
    reader = read(render(Inputs({}, {}, {}, {})).html)
    assert reader.sections == ["not-measured"]
    assert "The stage evaluation has no metrics." in reader.texts
    assert "The stage judge@held_out has no metrics." in reader.texts


def test_nobody_is_called_a_teacher(page: str) -> None:
    assert "teacher" not in page.lower()


def test_text_from_data_cannot_become_markup(full_inputs: Inputs) -> None:
    first, *_ = full_inputs.showcases
    bad = replace(first, instruction='</q><script src="x">')
    page = render(Inputs({}, {}, {}, {}, [bad])).html
    assert read(page).scripts == 2
    assert "<script src" not in page
    assert "u003cscript" in page


def test_intervals_of_the_judge_stand_by_dimension() -> None:
    shares = {"all": {"realism": 0.91, "n": 30}, "held_out_degradations": {"realism": 0.6, "n": 5}}
    interval = {"level": 0.9, "all": {"half_width": {"realism": 0.7}, "coverage": shares, "pairs": 20}}
    spec = {"reward": {"dimensions": {"realism": {"max_score": 1.0}}}}
    agreement = {"mae": 0.2, "spearman": 0.5}
    metrics = {"judge": {"n": 30, "realism": agreement, "total": agreement, "interval": interval}}
    page = render(Inputs(spec, {}, metrics, {})).html
    assert "intervals of nominal coverage 0.9" in page
    for text in ("All: half width", "All: held out degradations", "0.91"):
        assert text in page
    assert "Interval · " not in page


def test_figures_link_to_the_fields_behind_them(page: str) -> None:
    assert '<a href="#spec:rollout.horizon"><code>rollout.horizon</code></a>' in page
    assert '<span id="spec:rollout.decodings.swr.window">' in page
    assert "#spec:rl.guard" not in page, "the toy spec does not list it"


def test_every_gate_of_the_evaluation_has_a_meaning() -> None:
    spec = EvaluationSpec()
    measured, missing = evaluation_gates({}, {}, spec)
    assert set(measured) | set(missing) == set(MEANINGS)
