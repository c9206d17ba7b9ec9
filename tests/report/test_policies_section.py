"""The report's section on policies: what it shows, and that it is left out without policies."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roboalign.io import write_tsv
from roboalign.report.blocks import Chart, Table
from roboalign.report.inputs import Inputs
from roboalign.report.names import DASH
from roboalign.report.policies import STILLS, policies, strip
from roboalign.report.policy_showcases import policy_showcases
from roboalign.report.showcases import ClipColumn, Showcase


def rate(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": max(0.0, mean - 0.2), "high": min(1.0, mean + 0.2), "n": 8}


def agreement(value: float) -> dict[str, Any]:
    entry = {"mean": value, "low": value - 0.1, "high": value + 0.1, "n": 3}
    return {"pearson": entry, "spearman": entry, "mmrv": entry, "episodes": 8}


@pytest.fixture
def metrics() -> dict[str, Any]:
    change = {"mean": 0.2, "low": 0.1, "high": 0.3, "n": 12}
    return {
        "split": "test",
        "horizon": 30,
        "episodes": {"fetch": 4, "panda": 4},
        "policies": {
            "expert": {"kind": "scripted", "open_loop": True, "simulator": rate(0.9), "supervised": rate(0.4)},
            "cloning": {
                "kind": "behavior_cloning", "open_loop": False, "simulator": rate(0.5), "supervised": rate(0.25),
                "cloning_error": {"fetch": 0.21, "panda": 0.25},
            },
        },
        "agreement": {"supervised": {"pooled": agreement(0.83), "by_source": {"fetch": agreement(0.71)}}},
        "optimism": {
            "supervised": {"false_success": rate(0.1), "missed_success": rate(0.6)},
            "difference": {"false_success": change},
            "by_source": {"fetch": {"supervised": {"false_success": rate(0.3)}}},
        },
        "gates": {"false_success": {"passed": False, "rule": "false success must not rise", "figures": change}},
    }  # fmt: skip


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_tables_chart_and_gate(metrics: dict[str, Any]) -> None:
    blocks = policies(Inputs({}, {}, {"policies": metrics}, {})).blocks
    tables = [block for block in blocks if isinstance(block, Table)]
    success, agreed, optimism, gate = tables
    assert texts(success) == [["Expert", "0.90", "0.40", DASH], ["Cloning", "0.50", "0.25", "0.23"]]
    assert success.rows[0][0].note == "open loop"
    assert texts(agreed)[0] == ["Supervised, all sources", "0.83", "0.83", "0.83"]
    assert ["Supervised, fetch", "0.71", "0.71", "0.71"] in texts(agreed)
    assert ["Aligned minus supervised, all sources", "+0.20", DASH] in texts(optimism)
    assert texts(gate)[0][1] == "failed"
    [chart] = [block for block in blocks if isinstance(block, Chart)]
    assert len(chart.panels) == 1  # the supervised model's alone
    assert [entry.label for entry in chart.legend] == ["closed loop", "open loop"]


@pytest.mark.parametrize("value", [None, {}, {"policies": {}}])
def test_it_is_left_out_without_policies(value: Any) -> None:
    assert not policies(Inputs({}, {}, {"policies": value}, {})).blocks


def test_the_best_and_the_worst_policy_are_shown(tmp_path: Path) -> None:
    folder, spec = tmp_path / "clips", {"policies": {"expert": {"kind": "scripted"}, "a": {"kind": "constant"},
                                                     "b": {"kind": "random"}}}  # fmt: skip
    folder.mkdir()
    clips: dict[str, Any] = {f"{policy}/fetch": np.zeros((1, 5, 8, 8, 3), np.uint8) for policy in spec["policies"]}
    for world in ("simulator", "supervised"):
        np.savez(folder / f"{world}.npz", **clips)
    rows = [
        {"world": world, "policy": policy, "source": "fetch", "episode": f"fetch/{number:06d}",
         "success": int(policy != "b"), "probability": 0.75}
        for world in ("simulator", "supervised") for policy in spec["policies"] for number in range(2)
    ]  # fmt: skip
    write_tsv(tmp_path / "success.tsv", rows)
    shown = list(policy_showcases(tmp_path, spec))
    assert [(each.instruction, each.cases) for each in shown] == [
        ("A", {"success": "highest"}), ("B", {"success": "lowest"}),
    ]  # fmt: skip
    assert [column.title for column in shown[0].columns] == ["Simulator", "Supervised"]
    assert shown[0].columns[0].scores == {"success": 0.75}


def test_a_strip_shows_each_world_in_a_row() -> None:
    frames = np.repeat(np.arange(9, dtype=np.uint8)[:, None, None, None] * 20, 8, axis=1).repeat(8, 2).repeat(3, 3)
    columns = [
        ClipColumn("simulator", "Simulator", frames, {"success": 1.0}),
        ClipColumn("supervised", "Supervised", frames[::-1], {}),
    ]
    photo = strip(Showcase("fetch/000001", "fetch", "Cloning", {"success": "lowest"}, columns))
    image = np.asarray(Image.open(io.BytesIO(photo.data)).convert("L"), np.int16)
    assert image.shape == (16, 8 * STILLS)
    assert image[4, 4] < 30 < 130 < image[4, -4]
    assert image[12, 4] > 130 > 30 > image[12, -4]
    assert photo.caption == "fetch, fetch/000001: Cloning, lowest success"
    assert "Simulator (success 1.00), Supervised" in photo.note


def test_no_policies_show_nothing(tmp_path: Path) -> None:
    write_tsv(tmp_path / "success.tsv", [])
    assert list(policy_showcases(tmp_path, {"policies": {}})) == []
