"""The section on sliding window re-encoding: video metrics of all decodings, as tables and by frame."""

from dataclasses import replace

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Section
from roboalign.report.inputs import Inputs, perceptual, sample_size
from roboalign.report.names import FIRST, dig, title
from roboalign.report.paper import published_swr
from roboalign.report.plots import Panel, line_chart
from roboalign.types import Json


def video_metrics(inputs: Inputs) -> list[tuple[str, str, int]]:
    """The columns of video metrics: key, heading, decimals."""
    name = perceptual(inputs)
    return [
        ("psnr", "PSNR (dB)", 2),
        ("ssim", "SSIM", 4),
        ("perceptual", f"{name} (lower is better)", 4),
        ("roi_perceptual", f"ROI {name} (lower is better)", 4),
        ("peak_sequence", "Peak sequence (tokens)", 0),
    ]


OVER_TIME = (
    ("motion_ratio", "Motion relative to truth (1 is best)", 2),
    ("flicker", "Flicker", 4),
    ("repeated_frames", "Repeated frames (fraction)", 3),
    ("frechet", "Fréchet distance, frames (lower is better)", 5),
    ("frechet_motion", "Fréchet distance, frames with change (lower is better)", 5),
)
"""The columns of temporal metrics and of distances between sets: key, heading, decimals."""


def over_time_note(rollout: Json) -> str:
    """The note that explains the columns of OVER_TIME."""
    text = (
        "Motion: mean square of frame differences, divided by that of the true future. Flicker: mean distance of "
        "frames from the mean of their two neighbours; compare it with the ground truth's."
    )
    name = dig(rollout, "frechet_name")
    if not isinstance(name, str):
        return text
    return (
        f"{text} {name}: between the whole set and the true clips. It measures whether frames look real, not whether "
        "they are correct, so copies of a true frame have a low distance. The ground truth's row has the distance "
        "between two halves of the true clips, which show different scenes, for scale. It is not FID or FVD, has no "
        "interval, and is biased upwards with few frames; compare values within this table only."
    )


def sliding_window(inputs: Inputs) -> Section:
    """Video metrics of SWR and all other decodings, as tables and by frame."""
    rollout = inputs.metrics.get("rollout")
    first, second = _swr_pair(inputs)
    sampling = first.split(".")[-1]
    columns = video_metrics(inputs)
    blocks: list[Block] = []
    if dig(rollout, first) and dig(rollout, second):
        caption = f"SWR against plain autoregression{sample_size(rollout)}"
        table = tables.against(rollout, first, second, columns, caption, published_swr(columns))
        compared = ("rollout.decodings", "rollout.horizon", "rollout.episodes", "evaluation.gates.swr")
        blocks.append(replace(table, fields=compared))
    swept = tuple(f".{name}." for name in dig(inputs.spec, "rollout", "sweep") or ())
    sweep = {name: value for name, value in (rollout or {}).items() if any(part in name for part in swept)}
    others = {name: value for name, value in (rollout or {}).items() if name not in sweep}
    table = tables.minus_autoregression(
        others, columns, f"Each decoding minus plain autoregression{sample_size(rollout)}"
    )
    blocks += [table] if table.rows else []
    for entries, caption in ((others, "All models and decodings"), (sweep, "SWR by window")):
        table = tables.decodings(entries, columns, caption + sample_size(rollout))
        if table.rows and len(table.head) > 1:
            blocks.append(replace(table, folded=entries is others, fields=("rollout.decodings", "rollout.sweep")))
    caption = f"Temporal metrics and distances between sets{sample_size(rollout)}"
    table = tables.decodings(others, OVER_TIME, caption, over_time_note(rollout))
    blocks += [replace(table, folded=True, fields=("evaluation.frechet",))] if table.rows else []
    panels = charts.panels(
        inputs.curves.get("rollout", ()),
        keep=lambda name: (
            not name.startswith("aligned") and name not in sweep and name.split(".")[-1] in ("", *FIRST, sampling)
        ),
        only=("psnr", "ssim", "perceptual", "roi_perceptual"),
    )
    if panels:
        renamed = [_name_panel(panel, "perceptual", perceptual(inputs)) for panel in panels]
        fields = ("rollout.horizon", "rollout.decodings", "evaluation.perceptual")
        # Behind the main table, before the tables of all decodings.
        caption = f"By frame of the rollout, supervised model{sample_size(rollout)}"
        blocks.insert(min(1, len(blocks)), line_chart(caption, renamed, "rollout", fields))
    return Section("swr", "Sliding window re-encoding", blocks)


def _swr_pair(inputs: Inputs) -> tuple[str, str]:
    """The clip sets of plain autoregression and of SWR that the SWR gate compares."""
    pair = dig(inputs.spec, "evaluation", "gates", "swr") or {}
    return str(pair.get("against", "supervised.ar.greedy")), str(pair.get("model", "supervised.swr.greedy"))


def _name_panel(panel: Panel, word: str, name: str) -> Panel:
    """A copy of a panel with `word` in its title replaced by `name`."""
    return replace(panel, title=panel.title.replace(title(word), name).replace(word, name))
