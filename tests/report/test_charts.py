"""Curves: what is drawn is what the file holds."""

import pytest

from roboalign.report.blocks import Table
from roboalign.report.charts import panels
from roboalign.report.gates import gates
from roboalign.report.inputs import Inputs
from roboalign.report.names import DASH, model, number, significant, title, with_name
from roboalign.report.plots import (
    INK,
    PALETTE,
    RULE,
    Bar,
    Panel,
    RadarPanel,
    Series,
    histograms,
    intervals,
    line_chart,
    radar_chart,
    scatter_chart,
)  # fmt: skip
from roboalign.report.sliding_window import sliding_window
from roboalign.report.tables import against, estimate, flat, grid, p_value, transpose


def test_number_columns_become_panels_and_text_columns_series() -> None:
    rows = [
        {
            "model": name,
            "frame": str(frame),
            "psnr": str(20 + frame),
            "psnr_low": str(frame),
            "psnr_high": "30",
            "n": "24",
        }
        for name in ("supervised.ar", "aligned.ar")
        for frame in (2, 1)
    ]
    (panel,) = panels(rows)
    assert panel.title == "PSNR (dB)"
    assert [line.label for line in panel.series] == ["Supervised · AR", "Aligned · AR"]
    assert panel.series[0].x == [1, 2], "in order of x"
    assert panel.series[0].y == [21, 22]
    assert panel.series[0].low == [1, 2]
    (kept,) = panels(rows, keep=lambda name: name.startswith("aligned"))
    assert [line.label for line in kept.series] == ["Aligned · AR"]


def test_empty_cells_are_left_out_and_files_without_x_give_nothing() -> None:
    (panel,) = panels([{"step": "1", "loss": "2"}, {"step": "2", "loss": ""}, {"step": "3", "loss": "1"}])
    assert panel.series[0].x == [1, 3]
    assert panels([{"loss": "1"}]) == []
    assert panels([]) == []


def test_only_positive_curves_of_a_wide_range_get_a_logarithmic_axis() -> None:
    def log(first: str, last: str) -> bool:
        return panels([{"step": "1", "loss": first}, {"step": "2", "loss": last}], log=("loss",))[0].log

    assert log("2", "0.01")
    assert not log("2", "1")
    assert not log("2", "0")


@pytest.mark.parametrize("kind", ["lines", "intervals", "histograms", "radar", "scatter"])
def test_charts_follow_the_theme_and_repeat_their_bytes(kind: str) -> None:
    def draw() -> str:
        if kind == "lines":
            series = [Series("a", [0, 1, 2], [1, 2, 3], [0, 1, 2], [2, 3, 4]), Series("b", [0, 1], [3, 1], colour=1)]
            return line_chart('a "chart" of <a>', [Panel("one", "x", series)], "salt").panels[0]
        if kind == "intervals":
            return intervals([Bar("m", "g", 1, 0.5, 1.5), Bar("m", "h", 1, 1, 1)], "salt", "chart", "x", None)
        if kind == "radar":
            return radar_chart("chart", [RadarPanel("one", ["x", "y", "z"], [("a", [0.1, 0.5, 1])])], "salt").panels[0]
        if kind == "scatter":
            return scatter_chart("chart", [("one", "x", [(1, 2), (3, 4)])], "salt", "y").panels[0]
        return histograms("chart", [("one", ["a", "b"], [1.0, 2.0])], "salt").panels[0]

    svg = draw()
    assert svg == draw()
    assert svg.startswith("<svg viewBox=")
    assert svg.endswith("</svg>")
    assert INK not in svg
    assert RULE not in svg
    assert "var(--ink)" in svg
    assert "<metadata" not in svg
    assert "DejaVu" not in svg


def test_a_legend_names_lines_only_if_a_panel_has_several() -> None:
    single = [Panel(name, "x", [Series(name, [0, 1], [1, 2])]) for name in ("one", "two")]
    assert line_chart("chart", single, "salt").legend == []
    double = Panel("both", "x", [Series("first", [0, 1], [1, 2]), Series("fifth", [0, 1], [2, 1], colour=4)])
    first, fifth = line_chart("chart", [double, double], "salt").legend
    assert (first.label, first.colour, first.dashed) == ("first", PALETTE[0], False)
    assert (fifth.label, fifth.colour, fifth.dashed) == ("fifth", PALETTE[4], True)


def test_clip_sets_have_readable_names() -> None:
    assert model("supervised.swr_w4.greedy") == "Supervised · SWR W = 4 · greedy"
    assert model("copy_last") == "Copy of the last true frame"
    assert model("w6") == "W = 6"
    assert model("supervised.best_of_4") == "Supervised · best of 4 by the student"


def test_the_perceptual_distance_goes_by_its_real_name() -> None:
    metrics = {"sampled_perceptual": 0.1, "by_source": {"a": {"perceptual": 0.2}}, "perceptual_name": "ST-LPIPS"}
    table = flat("figures", with_name(metrics, "ST-LPIPS"), ["perceptual_name"])
    assert [row[0].text for row in table.rows] == ["Sampled ST-LPIPS", "By source · a · ST-LPIPS"]


def test_turning_a_grid_keeps_every_cell() -> None:
    table = transpose(grid("by source", {"a": {"x": 1, "y": 2}, "b": {"x": 3}}, "Source"))
    assert table.head == ["Metric", "a", "b"]
    assert [[cell.text for cell in row] for row in table.rows] == [["X", "1", "3"], ["Y", "2", "\N{EN DASH}"]]


def test_numbers_are_printed_as_people_write_them() -> None:
    assert number(-0.004) == "0.00"
    assert number(-1.234) == "\N{MINUS SIGN}1.23"
    assert significant(1234567) == "1\u202f234\u202f567"
    assert significant(0.123456) == "0.123"
    assert significant(True) == "yes"
    assert p_value(0.0004) == "p < .001"
    assert p_value(0.031) == "p = .031"
    assert title("psnr_gain") == "PSNR gain"


def test_absent_figures_are_dashes_and_never_zero() -> None:
    assert estimate(None).text == "\N{EN DASH}"
    assert estimate({"mean": 1.0, "low": 0.5, "high": 1.5}).note == "0.50 to 1.50"
    assert flat("figures", {"a": {"b": 1.5, "c": {"mean": 2.0, "low": 1.0, "high": 3.0, "n": 4}}}).rows[1][1].note == (
        "1 to 3 · n = 4"
    )


def test_change_is_good_where_distance_falls() -> None:
    fewer = {"mean": -0.02, "low": -0.03, "high": -0.01, "n": 9}
    rollout = {
        "a": {"perceptual": 0.2, "psnr": 20.0},
        "b": {"perceptual": 0.18, "psnr": 19.98, "less_ar": {"perceptual": fewer, "psnr": fewer}},
    }
    table = against(
        rollout, "a", "b", [("perceptual", "LPIPS", 4), ("psnr", "PSNR", 2), ("ssim", "SSIM", 4)], "caption"
    )
    assert [(row[0].text, row[3].tone) for row in table.rows] == [("LPIPS", "good"), ("PSNR", "bad")]
    assert table.rows[0][4].text == "\N{MINUS SIGN}10.0 %"


def test_clip_sets_over_time_stand_beside_the_ground_truth(full_inputs: Inputs) -> None:
    blocks = [block for block in sliding_window(full_inputs).blocks if isinstance(block, Table)]
    table = next(block for block in blocks if block.caption.startswith("Temporal metrics"))
    assert [cell.text for cell in table.rows[0]] == ["Ground truth", DASH, "0.0123", "0.100", DASH, DASH]
    supervised = next(row for row in table.rows if row[0].text == "Supervised · AR · greedy")
    assert supervised[1].note
    assert supervised[4].text == "0.00107"
    assert "Fréchet distance on resnet10t features" in table.note
    # What has no figure of a frame's likeness is no row of that table.
    whole = next(block for block in blocks if block.caption.startswith("All models"))
    assert "Ground truth" not in [row[0].text for row in whole.rows]


def test_gates_name_clip_sets_as_the_tables_do() -> None:
    gate = {"passed": True, "rule": "a rule", "figures": {"supervised.ar.greedy": 0.9, "psnr SWR": 1.5}}
    cell = gates({"gates": {"a": gate}}).rows[0][3]
    assert cell.note == "Supervised · AR · greedy: 0.9 · PSNR SWR 1.5"
