"""The page in a real browser, scored by keyboard alone."""

import html
import json
import re
import subprocess

import pytest
from annotate_fakes import fake_frames, fake_pairs
from browser import SCHEMES, WAIT_MS, find_chromium, severe_findings

from roboalign.annotate.page import render, study
from roboalign.annotate.sample import Showing
from roboalign.bench.annotations import parse

DRIVER = """
const press = (key, target = document.body) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const brush = canvas.getContext("2d");
const pixels = () => [...brush.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 < 3);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const notes = {};
async function drive() {
  localStorage.clear();
  byId("rater").value = "anna";
  byId("begin").requestSubmit();
  await wait(300);
  notes.plays = player.playing;
  press(" ");
  player.seek(0);
  notes.first = pixels();
  press("ArrowRight");
  notes.second = pixels();
  for (const key of ["2", ".", "Enter", "1", "Enter", "0", ".", "Enter", "9", "1", "Enter", "Enter"]) press(key);
  notes.missing = byId("told").textContent;
  for (const key of ["1", "u", "0", "ArrowDown", "2"]) press(key);
  notes.before = place;
  press("Enter");
  await wait(100);
  notes.after = place;
  press("n");  // later: the third clip comes, then the second again
  notes.skipped = place;
  for (let left = 0; left < 2; left++) {
    for (let dimension = 0; dimension < 6; dimension++) { press("1"); press("Enter"); }
    await wait(100);
  }
  notes.done = !byId("end").hidden;
  notes.lines = study.clips.map((_, at) => line(at));
  notes.kept = JSON.parse(localStorage.getItem(drawer()));
  answers = {};
  restore();
  notes.resumed = place;
  const text = document.createElement("pre");
  text.id = "notes";
  text.textContent = JSON.stringify(notes);
  document.body.append(text);
}
drive().catch((error) => { document.body.append("driver failed: " + error.stack); });
"""


@pytest.fixture(scope="module")
def notes(six, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    page = render(study(fake_pairs(6), fake_frames, [Showing(0, 1), Showing(3, 1), Showing(0, 2)], six, ""))
    (folder / "page.html").write_text(page.replace("</body>", f"<script>{DRIVER}</script></body>"))
    done = subprocess.run(
        [find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
         "--virtual-time-budget=20000", "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r'<pre id="notes">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))


def test_frames_are_shown_exactly_one_after_another(notes):
    assert notes["plays"]
    assert notes["first"] == fake_frames(0)[0].flatten().tolist()
    assert notes["second"] == fake_frames(0)[1].flatten().tolist()


def test_keys_score_and_missing_scores_hold_the_clip(notes, six):
    assert "Contact realism has no score yet" in notes["missing"]
    first = parse(notes["lines"][0], "line", six)
    # 2.5; 1; 0.5; 9 is too much, so 1; 1 was undone, so 0; 2
    assert [first.scores[name] for name in six.names] == [2.5, 1, 0.5, 1, 0, 2]
    assert (first.rater, first.showing, first.clip) == ("anna", 1, fake_pairs(6)[0].id)


def test_later_clips_come_again_until_all_are_scored(notes, six):
    assert (notes["before"], notes["after"], notes["skipped"]) == (0, 1, 2)
    assert notes["done"]
    rows = [parse(line, "line", six) for line in notes["lines"]]
    assert [(row.clip, row.showing) for row in rows] == [
        (fake_pairs(6)[0].id, 1), (fake_pairs(6)[3].id, 1), (fake_pairs(6)[0].id, 2),
    ]  # fmt: skip


def test_answers_survive_a_closed_page(notes):
    assert {at for at, answer in notes["kept"]["answers"].items() if answer["kept"]} == {"0", "1", "2"}
    assert notes["resumed"] == -1  # nothing is left to score


def test_the_page_is_accessible(six, browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(render(study(fake_pairs(6), fake_frames, [Showing(0, 1)], six, "")))
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(file.as_uri())
    assert severe_findings(page) == []
    page.locator("#rater").fill("axe")
    page.keyboard.press("Enter")
    page.locator("#task").wait_for()
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert severe_findings(page) == []
    page.locator("#help").click()
    page.locator("#keys[open]").wait_for()
    assert severe_findings(page) == []
    page.keyboard.press("Escape")
    page.evaluate("section('end')")
    assert severe_findings(page) == []
    context.close()
