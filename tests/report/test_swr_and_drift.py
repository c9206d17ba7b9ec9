"""What the report says of decodings and of drift, by their figures."""

import pytest

from roboalign.report import tables
from roboalign.report.drift import claims
from roboalign.types import Json


def interval(mean: float, low: float, high: float) -> Json:
    return {"mean": mean, "low": low, "high": high, "n": 9}


def test_each_decoding_is_coloured_by_its_difference_to_plain_autoregression() -> None:
    rollout = {
        "supervised.ar.greedy": {"psnr": interval(20, 19, 21)},
        "supervised.swr.greedy": {
            "less_ar": {"psnr": interval(0.5, 0.2, 0.8), "perceptual": interval(-0.02, -0.03, -0.01)}
        },
        "supervised.kv_window.greedy": {
            "less_ar": {"psnr": interval(-0.5, -0.8, -0.2), "perceptual": interval(0.01, -0.02, 0.04)}
        },
        "supervised.true_refresh.greedy": {
            "less_ar": {"psnr": interval(4, 3, 5), "perceptual": interval(-0.2, -0.3, -0.1)}
        },
    }
    columns = [("psnr", "PSNR", 2), ("perceptual", "LPIPS", 3), ("ssim", "SSIM", 3)]
    table = tables.minus_autoregression(rollout, columns, "Less AR")
    assert table.head == ["Model and decoding", "PSNR", "LPIPS"]
    tones = {row[0].text: [cell.tone for cell in row[1:]] for row in table.rows}
    assert len(tones) == 3
    assert [tone for name, tone in tones.items() if "SWR" in name] == [["good", "good"]]
    assert [tone for name, tone in tones.items() if "KV" in name] == [["bad", ""]]
    assert [tone for name, tone in tones.items() if "true frame" in name] == [["", ""]]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (None, []),
        ({"alpha": 1.017}, ["Proposition 1 does not apply", "1.017"]),
        (
            {"alpha": 0.9, "bound": {"2": 0.3, "6": 0.2}, "bound_autoregressive": 0.1},
            ["error of SWR is 0.200", "plain autoregression is 0.100", "does not explain"],
        ),
        ({"alpha": 0.9}, []),
        ({"predicted_window_swept": 6, "swept_window": 6}, ["predicted best is W = 6, as measured"]),
        (
            {"predicted_window_swept": 30, "swept_window": 6},
            ["predicted best is W = 30, but the measured best is W = 6"],
        ),
        ({"validation_window": 9}, ["best of all windows is W = 9"]),
    ],
)
def test_claims_follow_the_figures(metrics: Json, expected: list[str]) -> None:
    found = " ".join(claims(metrics))
    assert bool(found) == bool(expected)
    assert all(part in found for part in expected)
