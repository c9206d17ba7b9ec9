"""The browser in which pages are tested: Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")

SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
"""The colour schemes of every page."""

WAIT_MS = 120_000
"""Time limit of a step, in milliseconds: machines that run tests are busy."""


def find_chromium() -> str:
    """The path of Chromium. Fails the test if it is missing, with what to install: pages are not tested without it."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(
            "Chromium is missing, in which the report and the pages for raters are tested; on Debian: apt-get install "
            "chromium, on Ubuntu: snap install chromium",
            pytrace=False,
        )
    return found


@contextmanager
def launch_chromium() -> Iterator[Browser]:
    """Chromium, until the context is left."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"], timeout=WAIT_MS)
        yield browser
        browser.close()


def severe_findings(page: Page, **options: Any) -> list[str]:
    """The serious and critical findings of axe in a page, with the first elements of each."""
    found = Axe().run(page, None, {"resultTypes": ["violations"], **options}).response["violations"]
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']][:3]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
