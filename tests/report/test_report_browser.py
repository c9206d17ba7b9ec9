"""The report in a real browser, opened from disk: no errors, no network, and every control does what it says."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import WAIT_MS, severe_findings
from playwright.sync_api import Browser, Page

from roboalign.report.names import DASH
from roboalign.report.page import Page as Report
from roboalign.report.page import write_page

PROVENANCE = [{"caption": "Stages", "head": ["Stage", "Time"], "rows": [[["rl", ""], ["9 s", "last run"]]]}]


class Opened:
    """A page of the browser, with what it logged as errors and the addresses that it asked for."""

    def __init__(self, browser: Browser, file: Path, **options: Any) -> None:
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.context.set_default_timeout(WAIT_MS)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri(), wait_until="domcontentloaded")
        self.page.wait_for_selector("#viewer[data-frame]")


@pytest.fixture(scope="module")
def file(full_page: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report in a folder, with a file of provenance."""
    folder = tmp_path_factory.mktemp("report")
    write_page(full_page, folder)
    (folder / "provenance.js").write_text(f"window.roboalignProvenance = {json.dumps(PROVENANCE)};")
    return folder / "index.html"


@pytest.fixture(scope="module")
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    """The report on a desktop, in light colours."""
    options = {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}
    one = Opened(browser, file, permissions=["clipboard-read", "clipboard-write"], **options)
    yield one
    one.context.close()


@pytest.fixture
def page(opened: Opened) -> Page:
    return opened.page


def column(page: Page, caption: str, number: int) -> list[str]:
    """The texts of a column of a table, without their intervals."""
    rows = f'figure[data-caption^="{caption}"] tbody tr'
    script = "(rows, n) => rows.map((row) => row.cells[n].firstChild.textContent)"
    texts: list[str] = page.locator(rows).evaluate_all(script, number)
    return texts


def value(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def test_tables_sort_by_value_and_return_to_their_order(page: Page) -> None:
    caption = "Total score (0"
    page.locator(f'figure[data-caption^="{caption}"]').evaluate("(figure) => (figure.closest('details').open = true)")
    head = page.locator(f'figure[data-caption^="{caption}"] thead th').nth(1)
    first = column(page, caption, 1)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, caption, 1) == sorted(first, key=value, reverse=True) != first
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, caption, 1) == sorted(first, key=value)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(page, caption, 1) == first


def copied(page: Page, caption: str, form: str) -> str:
    page.locator(f'figure[data-caption^="{caption}"]').get_by_role("button", name=f"Copy as {form}").click()
    page.wait_for_timeout(100)
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_tables_are_copied_as_csv_markdown_and_latex(page: Page) -> None:
    caption = "SWR against plain"
    rows = list(csv.reader(io.StringIO(copied(page, caption, "CSV"))))
    assert rows[0][:4] == [
        "Metric",
        "Supervised · AR · greedy",
        "Supervised · AR · greedy, note",
        "Supervised · SWR · greedy",
    ]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[1][:3] == ["PSNR (dB)", "25.64", "25.24 to 26.04"]
    lines = copied(page, caption, "Markdown").splitlines()
    assert lines[1].replace(" ", "").strip("|-") == ""
    assert lines[2].startswith("| PSNR (dB) | 25.64 (25.24 to 26.04) | ")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    latex = copied(page, caption, "LaTeX")
    assert latex.startswith("\\begin{tabular}{llllllll}\n\\toprule\nMetric & ")
    assert "\\%" in latex
    assert latex.count("&") == 7 * latex.count("\\\\")


def shown(page: Page) -> list[bytes]:
    """Pictures of all clips at hand."""
    return [canvas.screenshot() for canvas in page.locator("#viewer canvas").all()]


def at(page: Page) -> int:
    return int(page.locator("#viewer").get_attribute("data-frame") or -1)


def test_clips_play_in_step(page: Page) -> None:
    page.locator("#viewer").scroll_into_view_if_needed()
    before = shown(page)
    assert len(before) == 4
    page.locator("#viewer-play").click()
    page.wait_for_selector('#viewer:not([data-frame="0"])')
    page.locator("#viewer-play").click()
    assert page.locator("#viewer-play").inner_text() == "Play"
    assert page.locator("#viewer-frame").inner_text().startswith(f"frame {at(page)} of 4")
    page.locator("#viewer-seek").fill("3")
    assert at(page) == 3
    assert all(a != b for a, b in zip(before, shown(page), strict=True))


def test_the_keyboard_moves_frames_and_episodes(page: Page) -> None:
    viewer = page.locator("#viewer")
    viewer.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert at(page) == 1
    page.keyboard.press("End")
    assert at(page) == 4
    first = page.locator("#viewer-episode").input_value()
    page.keyboard.press("n")
    assert page.locator("#viewer-episode").input_value() != first
    page.keyboard.press("p")
    assert page.locator("#viewer-episode").input_value() == first
    page.wait_for_selector('#viewer[data-frame="0"]')
    page.keyboard.press("Space")
    page.wait_for_selector('#viewer:not([data-frame="0"])')
    page.keyboard.press("Space")
    page.keyboard.press("d")
    assert page.locator("#viewer-difference").is_checked()
    page.keyboard.press("d")


def test_filters_choose_source_dimension_and_case(page: Page) -> None:
    episodes = page.locator("#viewer-episode option")
    assert episodes.count() == 6
    page.locator("#viewer-source").select_option("fetch")
    page.locator("#viewer-case").select_option("worst")
    assert episodes.all_inner_texts() == ["fetch/000002 · 6.00"]
    page.locator("#viewer-dimension").select_option("physics_adherence")
    assert episodes.all_inner_texts() == ["fetch/000002 · 1.70"]
    assert page.locator("#viewer-tag").inner_text() == f"worst of fetch, by physics adherence (0{DASH}2)"
    page.locator("#viewer-dimension").select_option("contact_realism")
    assert episodes.count() == 0
    assert "No episode" in page.locator("#viewer-tag").inner_text()
    for name, every in (("source", ""), ("case", ""), ("dimension", "total")):
        page.locator(f"#viewer-{name}").select_option(every)
    assert episodes.count() == 6


def test_a_figure_leads_to_the_field_behind_it(page: Page) -> None:
    line = page.locator('[id="spec:rollout.horizon"]')
    assert not line.is_visible()
    page.locator('a[href="#spec:rollout.horizon"]').first.click()
    line.wait_for(state="visible")
    assert line.inner_text() == "  horizon: 30\n"


def test_what_differs_between_runs_is_read_from_beside_the_page(page: Page) -> None:
    row = page.locator('figure[data-caption="Stages"] tbody tr')
    row.wait_for()
    assert row.inner_text().split() == ["rl", "9", "s", "last", "run"]


OPEN_AND_SHORTEN = """() => {
  document.querySelectorAll("details").forEach((each) => (each.open = true));
  const kinds = new Set();
  for (const row of document.querySelectorAll("tbody tr, pre > span")) {
    const cells = [...row.children].map((cell) => [cell.nodeName, cell.className, cell.childElementCount]);
    const table = row.closest("figure")?.className;
    const texts = new Set(cells.map(String));
    if (row.previousElementSibling && [...texts].every((text) => kinds.has(table + text))) row.remove();
    else texts.forEach((text) => kinds.add(table + text));
  }
  document.querySelectorAll("svg").forEach((each) => each.replaceChildren());
}"""
"""Opens every folded part, keeps the first row of each table and listing and those with another kind of cell, and
empties charts: axe takes a minute for the contrast of thousands of equal cells."""


def test_the_theme_is_chosen_and_kept_and_the_whole_page_is_accessible_in_both(page: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(253, 253, 252)"
    page.evaluate(OPEN_AND_SHORTEN)
    assert severe_findings(page) == []
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Theme: dark"
    assert page.evaluate(paper) == "rgb(22, 24, 26)"
    assert severe_findings(page, runOnly=["color-contrast"]) == []
    page.reload(wait_until="domcontentloaded")
    assert page.locator("#theme").inner_text() == "Theme: dark"
    page.wait_for_selector("#viewer[data-frame]")


def test_nothing_failed_and_nothing_came_from_elsewhere(opened: Opened, file: Path) -> None:
    assert opened.errors == []
    folder = file.parent.as_uri()
    assert [url for url in opened.requests if not url.startswith((folder, "data:", "blob:"))] == []
    assert any(url.endswith(".webp") for url in opened.requests)


def test_a_phone_scrolls_in_one_direction(browser: Browser, file: Path) -> None:
    one = Opened(browser, file, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    one.page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert one.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 26)"
    assert one.errors == []
    one.context.close()


def test_without_provenance_the_page_says_so(browser: Browser, file: Path, tmp_path: Path) -> None:
    alone = tmp_path / "index.html"
    alone.write_bytes(file.read_bytes())
    one = Opened(browser, alone)
    assert "provenance.js is not beside this page" in one.page.locator(".local").inner_text()
    assert "missing beside this page" in one.page.locator("#viewer-tag").inner_text()
    one.context.close()
