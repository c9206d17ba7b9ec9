"""The documentation site: its reference has every spec field, and it builds without an error or another host."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from browser import WAIT_MS
from playwright.sync_api import Browser
from pydantic import BaseModel

from roboalign.cli.parser import COMMANDS
from roboalign.spec.experiment import VARIANTS, ExperimentFileSpec, ParamsSpec, StudySpec
from scripts.docs_site import ROOT, flowchart_text, generated_pages


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The generated pages by path."""
    return generated_pages()


def spec_classes(annotation: object, found: dict[str, type[BaseModel]]) -> None:
    """Add the spec classes that a type refers to, directly or not."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation.__name__ not in found:
            found[annotation.__name__] = annotation
            for field in annotation.model_fields.values():
                spec_classes(field.annotation, found)
    else:
        for argument in get_args(annotation):
            spec_classes(argument, found)


def test_the_reference_has_every_field_of_every_spec_class(pages: dict[str, str]) -> None:
    classes: dict[str, type[BaseModel]] = {}
    for kind in (*VARIANTS.values(), ExperimentFileSpec, ParamsSpec, StudySpec):
        spec_classes(kind, classes)
    text = "\n".join(text for name, text in pages.items() if name != "reference/commands.md")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |^# |\Z)", text, re.M | re.S))
    assert sections.keys() == classes.keys()
    for name, kind in classes.items():
        rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", sections[name], re.M))
        assert rows.keys() - {"extends"} == kind.model_fields.keys() - {"extends"}, name
        for field, row in rows.items():
            if field not in kind.model_fields:
                continue  # `extends` of a file
            _, default, meaning = row.rsplit(" | ", 2)
            assert (default.strip() == "required") == kind.model_fields[field].is_required(), f"{name}.{field}"
            assert meaning.strip() or field == "kind", f"{name}.{field} has no docstring"


def test_the_reference_tells_bounds_defaults_and_choices(pages: dict[str, str]) -> None:
    assert "| `crf` | integer, 0 to 63 | `18` | Constant rate factor of video" in pages["reference/sources.md"]
    assert '| `kind` | `"auto"` or `"png"` or `"h264"` or `"av1"` | `"auto"` |' in pages["reference/sources.md"]
    assert "[TrainingSpec](shared.md#trainingspec)" in pages["reference/tokenizer.md"]
    assert all(f"\n## {name}\n" in pages["reference/commands.md"] for name in COMMANDS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: with no broken link, and with every page in the navigation."""
    pytest.importorskip("material", reason="mkdocs-material is not installed; install the extra `docs`")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    assert "RoboAlign trains robot video world models" in (site / "index.html").read_text()
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*", page.read_text())
        links = re.findall(r"<link\b[^>]*>", page.read_text())
        loaded += [link for link in links if re.search(r"href=[\"']?(?:https?:)?//", link) and "canonical" not in link]
        assert not loaded, page


def test_flowcharts_are_shown_as_text(site: Path) -> None:
    assert flowchart_text('  a --> b["c, d"] --> e\n  e --> f\n') == "```text\na → c, d → e\ne → f\n```"
    assert not [page for page in site.rglob("*.html") if "flowchart LR" in page.read_text()]


TABLES = """(tables) => tables.map((table) => {
  const box = table.closest(".md-typeset__scrollwrap");
  box.scrollLeft = box.scrollWidth;
  const cells = [...table.rows[1].cells].map((cell) => cell.getBoundingClientRect());
  const [first, { left, right, width }] = [cells[0], cells.at(-1)];
  return { box: box.clientWidth, left: first.left, hidden: first.right - left, width, right };
})"""


@pytest.mark.parametrize("name", ["index", "reference/rollout"])
def test_on_a_phone_tables_scroll_in_their_own_box(site: Path, browser: Browser, name: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto((site / f"{name}.html").as_uri(), wait_until="domcontentloaded")
    page.locator(".md-typeset__scrollwrap").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tables = page.locator(".md-content table").evaluate_all(TABLES)
    assert tables
    for table in tables:
        assert table["box"] <= 390
        assert table["left"] >= 0, "the first column stays in sight"
        assert table["width"] >= 200, "the last column has room for sentences"
        assert table["right"] <= 391, "it can be scrolled into sight"
        assert table["hidden"] <= 1, "the first column does not hide it"
    context.close()
