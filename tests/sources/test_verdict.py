"""`inspect` and the stage give the same verdict, and what is printed cannot order a terminal about."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import test_videos
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from roboalign.__main__ import main
from roboalign.hardware.spec import ProcessesSpec
from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.command import inspect_spec
from roboalign.sources.shards import materialise
from roboalign.sources.spec import SourceSpec

Capture = pytest.CaptureFixture[str]
ADAPTER: TypeAdapter[Any] = TypeAdapter(SourceSpec)
IMAGE = {"height": 16, "width": 16}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, so that nothing is cached in the checkout."""
    monkeypatch.chdir(tmp_path)


def spec_file(path: Path, fields: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def of_videos(folder: Path, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(test_videos.spec(folder, **changes).model_dump_json(exclude_unset=True))
    return fields


DRAWN = st.lists(st.sampled_from(("sound", "blank", "unwanted", "damaged", "short")), min_size=1, max_size=6)


FILTERS = st.sampled_from([{}, {"instruction": "."}, {"without": "unwanted"}])


@settings(max_examples=15, deadline=None)
@given(DRAWN, FILTERS, st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 3))
def test_it_gives_the_verdict_of_the_stage(
    kinds: list[str], chosen: dict[str, str], tolerance: float, episodes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), kinds, {"filter": chosen, "tolerance": tolerance, "episodes": episodes})


def compare(folder: Path, kinds: list[str], fields: dict[str, Any]) -> None:
    """Inspect a data set of such episodes, and read it as the stage does."""
    test_videos.film(folder / "data/a.mp4", test_videos.frames(0))
    actions = test_videos.actions(0).tolist()
    words = {"blank": " ", "unwanted": "unwanted"}
    lines = [
        {
            "video": "none.mp4" if kind == "damaged" else "a.mp4",
            "instruction": words.get(kind, "push"),
            "actions": actions[:3] if kind == "short" else actions,
        }
        for kind in kinds
    ]
    (folder / "data/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = ADAPTER.validate_python(of_videos(folder / "data", image=IMAGE, length=5, **fields))
    found = inspect_spec(spec, "mine", 0, folder / "cache")
    executor = ProcessesSpec(kind="processes", workers=1)
    try:
        report = materialise(
            spec, "mine", folder / "store", folder / "scratch", folder / "cache", executor, lambda *_: None
        )
    except SourceError:
        report = None
    assert found.is_usable == (report is not None)
    assert report in (None, found.preview.report)


def test_blank_instructions_name_the_filter(tmp_path: Path, capsys: Capture) -> None:
    def edit(folder: Path, lines: list[dict[str, Any]]) -> None:
        lines[1]["instruction"] = ""

    test_videos.write(tmp_path / "data", edit)
    path = spec_file(tmp_path / "mine.yaml", of_videos(tmp_path / "data", image=IMAGE))
    assert main(["inspect", str(path)]) == 1
    printed = capsys.readouterr().out
    assert "  1 of the episodes have no instruction; `filter: {instruction: .}` leaves them out\n" in printed
    spec_file(path, of_videos(tmp_path / "data", image=IMAGE, filter={"instruction": "."}))
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "kept          2; 1 left out by filter.instruction; 0 damaged\n" in printed
    assert "no instruction;" not in printed


def test_names_do_not_reach_the_terminal_as_orders(tmp_path: Path, capsys: Capture) -> None:
    def edit(folder: Path, lines: list[dict[str, Any]]) -> None:
        lines[0]["operator"]["name"] = "\x1b[2Jeve\ud800"
        lines[1]["video"] = "\x1b]0;x\x07.mp4"

    test_videos.write(tmp_path / "data", edit)
    path = spec_file(tmp_path / "mine.yaml", of_videos(tmp_path / "data", image=IMAGE, tolerance=0.5))
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert r"\x1b[2Jeve\ud800" in printed
    assert all(line.isprintable() for line in printed.split("\n"))
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["damaged"] == 1
