"""The script for a GPU runs at a small size on the CPU, and goes on after a section that fails."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_setup import Row, Setup


def test_all_sections_run_at_a_small_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(setup: Setup) -> list[Row]:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(gpu.SECTIONS, "broken", fail)
    sections = ["broken", *(name for name in gpu.SECTIONS if name not in ("limits", "broken"))]
    gpu.measure("small", "cpu", sections, tmp_path / "gpu.json")
    report = json.loads((tmp_path / "gpu.json").read_text())
    rows = {row["what"].split(":")[0]: row for row in report["rows"]}
    assert rows.pop("broken")["failed"] == "RuntimeError: no such kernel"
    assert not [row for row in rows.values() if "failed" in row]
    assert {"limits", "decode, default", "decode, fast", "alignment", "train tokenizer", "train student"} <= rows.keys()
    assert rows["decode, fast"]["launches a token"] < rows["decode, default"]["launches a token"]
    assert 0 < rows["train world_model"]["MFU"] < 1
    assert {"sample", "decode", "score", "policy", "reference", "backward", "optimizer"} <= rows["alignment"].keys()
    assert {"torch", "date", "device"} <= report.keys()
    assert capsys.readouterr().out.count("\n") == len(report["rows"])
