"""A report in which every section is filled."""

import pytest
from report_toys import DIMENSIONS, SPEC_TEXT, toy_card, toy_curves, toy_metrics, toy_scores, toy_showcases

from roboalign.report import plots
from roboalign.report.inputs import Inputs
from roboalign.report.page import Page, render


@pytest.fixture(scope="session")
def full_inputs() -> Inputs:
    """Everything measured."""
    spec = {
        "reward": {"dimensions": {name: {"max_score": maximum} for name, maximum in DIMENSIONS}},
        "sources": {"metaworld": {}, "fetch": {}},
        "tokenizer": {"height": 64, "width": 64, "training": {"steps": 600}},
        "judge": {"kind": "regression", "members": 4, "encoder": {"width": 96}, "training": {"seed": 0}},
        "held_out": {"kind": "regression", "members": 2, "encoder": {"width": 64}, "training": {"seed": 11}},
        "probe": {name: {"widths": [16, 32, 64]} for name in ("judge", "gold", "held_out")},
        "rl": {
            "optimizer": {"kind": "first_order"}, "group_size": 2, "kl_coef": 0.05, "horizon": 30,
            "reward": {"kind": "distilled", "variant": "faithful"},
            "distillation": {"every": 10},
            "guard": {"scorer": "held_out", "max_psnr_loss": 0.3},
        },
        "rollout": {"horizon": 30, "episodes": 24, "scored_decoding": "swr",
            "decodings": {"swr": {"kind": "swr", "window": 6}}, "sweep": ["swr_w2", "swr_w4", "swr_w12"]},
        "evaluation": {"aligned": [{"model": "aligned.swr.greedy", "against": "supervised.swr.greedy"}]},
    }  # fmt: skip
    return Inputs(spec, SPEC_TEXT, toy_metrics(), toy_curves(), toy_showcases(2), card=toy_card(), scores=toy_scores())


@pytest.fixture(scope="session")
def full_page(full_inputs: Inputs) -> Page:
    """The report of `full_inputs`."""
    return render(full_inputs)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts without content: drawing takes most of the time of a page."""
    monkeypatch.setattr(plots, "svg", lambda *_: "<svg></svg>")
