"""The study in a real browser: scripted raters whose preference is known, by keyboard alone; it is recovered."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import SCHEMES, WAIT_MS, severe_findings
from playwright.sync_api import Browser, BrowserContext, Page
from preference_toys import MODELS, write_rollouts

from roboalign.__main__ import main
from roboalign.io import write_json
from roboalign.preference.sample import SHUFFLED, TRUTH, StudyKey, read_key
from roboalign.sources.index import entry
from roboalign.store import EpisodeWriter
from roboalign.types import Episode

PREFERRED = (SHUFFLED, *MODELS, TRUTH)
"""From worst to best: the scripted raters prefer the later one."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, toy_episodes: list[Episode]) -> Path:
    """An experiment's folder with rollouts of three test episodes, and the page of its study."""
    root = tmp_path_factory.mktemp("study")
    tests = [episode for episode in toy_episodes if episode.split == "test"]
    artifacts = root / "artifacts"
    write_rollouts(artifacts / "rollout", tests)
    with EpisodeWriter(artifacts / "episodes/toy", fps=5) as writer:
        for episode in toy_episodes:
            writer.add(episode)
    write_json(artifacts / "sources/index.json", {"sources": {"toy": entry(artifacts / "episodes/toy", artifacts)}})
    arguments = ["--root", str(root), "pairs", "build", str(root / "pairs.html"), "--checks", "2"]
    assert main(arguments) == 0
    return root


@pytest.fixture(scope="module")
def key(root: Path) -> StudyKey:
    return read_key((root / "pairs.key.json").read_text(), "key")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 390, "height": 844})
    context.set_default_timeout(WAIT_MS)
    yield context
    context.close()


def begin(page: Page, rater: str) -> None:
    page.locator("#rater").fill(rater)
    page.keyboard.press("Enter")
    page.wait_for_selector("#task[data-pair]:not([hidden])")


def choose(page: Page, key: StudyKey, *, always: str = "") -> None:
    """Press the key of the better clip at hand, or `always` the same one."""
    task = page.locator("#task")
    pair = next(pair for pair in key.pairs if pair.id == task.get_attribute("data-pair"))
    better = "a" if PREFERRED.index(pair.a) > PREFERRED.index(pair.b) else "b"
    left = "b" if task.get_attribute("data-flipped") == "true" else "a"
    page.keyboard.press(always or ("ArrowLeft" if better == left else "ArrowRight"))


def answers(page: Page, root: Path) -> Path:
    with page.expect_download() as download:
        page.locator("#fetch").click()
    file = root / download.value.suggested_filename
    download.value.save_as(file)
    return file


def test_the_preference_of_scripted_raters_is_recovered(
    context: BrowserContext, root: Path, key: StudyKey, capsys: pytest.CaptureFixture[str]
) -> None:
    errors, requests, files, orders = list[str](), list[str](), list[Path](), list[list[str]]()
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    for rater, always in (("ann", ""), ("bob", ""), ("zoe", "ArrowLeft")):
        page.goto((root / "pairs.html").as_uri())
        begin(page, rater)
        for number in range(len(key.pairs)):
            if rater == "ann" and number == 3:  # a closed page goes on where it was
                at_hand = page.locator("#task").get_attribute("data-pair")
                page.reload()
                begin(page, rater)
                assert page.locator("#task").get_attribute("data-pair") == at_hand
                assert page.locator("#count").inner_text() == f"3 of {len(key.pairs)} compared"
            choose(page, key, always=always)
        page.wait_for_selector("#end:not([hidden])")
        files.append(answers(page, root))
        orders.append([json.loads(line)["pair"] for line in files[-1].read_text().splitlines()])
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(pair.id for pair in key.pairs)
    assert orders[0] != orders[1]
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []

    capsys.readouterr()
    assert main(["pairs", "read", *map(str, files), "--key", str(root / "pairs.key.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = {name: value["score"] for name, value in found["bradley_terry"].items()}
    assert sorted(scores, key=lambda name: scores[name]) == list(MODELS)
    assert found["win_rates"][MODELS[0]][MODELS[2]]["mean"] == 0
    assert found["krippendorff_alpha"] == pytest.approx(1)
    assert found["raters"]["ann"]["passed"] == found["raters"]["ann"]["checks"] == 2
    assert [name for name, record in found["raters"].items() if record["left_out"]] == ["zoe"] or (
        found["raters"]["zoe"]["passed"] == 2  # both recordings happened to be on the left
    )


def test_ties_back_and_buttons(context: BrowserContext, root: Path, key: StudyKey) -> None:
    page = context.new_page()
    page.goto((root / "pairs.html").as_uri())
    begin(page, "tia")
    first = page.locator("#task").get_attribute("data-pair")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(f'#task:not([data-pair="{first}"])')
    page.keyboard.press("b")
    assert page.locator("#task").get_attribute("data-pair") == first
    page.locator("#choose-right").click()
    stored = page.evaluate("Object.values(localStorage).map((text) => JSON.parse(text))")
    assert [answer["choice"] for answer in stored[0].values()] in (["a"], ["b"])
    page.wait_for_selector('#task[data-frame="0"]')
    page.keyboard.press("Space")
    page.wait_for_selector('#task:not([data-frame="0"])')
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_is_blind_and_accessible(context: BrowserContext, root: Path, key: StudyKey) -> None:
    text = (root / "pairs.html").read_text()
    for name in (*MODELS, TRUTH, SHUFFLED, *(pair.episode for pair in key.pairs)):
        assert not re.search(rf"\b{re.escape(name)}\b", re.sub(r"<script>.*?</script>", "", text, flags=re.S)), name
    sizes = {len(clip["image"]) for clip in json.loads(content_of(text))["clips"]}
    assert len(sizes) == 1, "the size of an image would tell its clip"
    page = context.new_page()
    page.goto((root / "pairs.html").as_uri())
    assert severe_findings(page) == []
    begin(page, "axe")
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert severe_findings(page) == []
    page.keyboard.press("?")
    page.locator("#keys[open]").wait_for()
    assert severe_findings(page) == []
    page.keyboard.press("Escape")
    page.evaluate("section('end')")
    assert severe_findings(page) == []


def content_of(text: str) -> str:
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    assert found
    return found[1]


def test_a_missing_experiment_and_unknown_models_are_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path), "pairs", "build"]) == 1
    assert "artifacts/rollout" in capsys.readouterr().err
    assert main(["--root", str(root), "pairs", "build", str(tmp_path / "x.html"), "--models", "a", "b"]) == 2
    assert "there are no rollouts of a; choose from aligned.swr.greedy" in capsys.readouterr().err
    assert main(["pairs", "read", str(tmp_path / "none.jsonl"), "--key", str(root / "pairs.key.json")]) == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err
