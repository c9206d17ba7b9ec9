"""The sections on gates, sliding window re-encoding, drift, and clips."""

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Chart, ClipComparison, Prose, Section
from roboalign.report.clips import animation_uri, strip_uri
from roboalign.report.inputs import Inputs, perceptual
from roboalign.report.names import FIRST, dig, title
from roboalign.report.plots import Panel, lines
from roboalign.report.scorers import scorer_words
from roboalign.report.showcases import showcase_scorer
from roboalign.types import Json

DRIFT = (
    "Errors are root mean squared errors of pixels in [0, 1]. Epsilon: one-step error with a true context of a given "
    "age, minus the tokenizer's reconstruction error. Delta: error added by re-encoding a generated frame. Alpha: "
    "factor by which a deviation shrinks from frame to frame. They predict the error of each window and the best "
    "window, which are compared with measurements; the widest window is plain autoregression."
)

CLIP_HEIGHT = 128
"""Minimum height in pixels of a clip in an animation."""


def gates(inputs: Inputs) -> Section:
    """The table of gates; empty if the evaluation has none."""
    evaluation = inputs.metrics.get("evaluation")
    if dig(evaluation, "gates") is None:
        return Section("gates", "Gates", [])
    prose = Prose(
        [
            "A gate is a condition that must hold for the results below to be meaningful. A failed gate is also a "
            "result. A gate whose values are absent is neither passed nor failed."
        ]
    )
    return Section("gates", "Gates", [prose, tables.gates(evaluation)])


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
        blocks.append(tables.against(rollout, first, second, columns, f"SWR against plain autoregression{_n(rollout)}"))
    swept = tuple(f".{name}." for name in dig(inputs.spec, "rollout", "sweep") or ())
    sweep = {name: value for name, value in (rollout or {}).items() if any(part in name for part in swept)}
    others = {name: value for name, value in (rollout or {}).items() if name not in sweep}
    table = tables.minus_autoregression(others, columns, f"Each decoding minus plain autoregression{_n(rollout)}")
    blocks += [table] if table.rows else []
    for entries, caption in ((others, "All models and decodings"), (sweep, "SWR by window")):
        table = tables.decodings(entries, columns, caption + _n(rollout))
        if table.rows and len(table.head) > 1:
            blocks.append(table)
    caption = f"Temporal metrics and distances between sets{_n(rollout)}"
    table = tables.decodings(others, OVER_TIME, caption, over_time_note(rollout))
    blocks += [table] if table.rows else []
    panels = charts.panels(
        inputs.curves.get("rollout", ()),
        keep=lambda name: (
            not name.startswith("aligned") and name not in sweep and name.split(".")[-1] in ("", *FIRST, sampling)
        ),
        only=("psnr", "ssim", "perceptual", "roi_perceptual"),
    )
    if panels:
        renamed = [_name_panel(panel, "perceptual", perceptual(inputs)) for panel in panels]
        chart = lines(
            renamed, 2 if len(renamed) in (2, 4) else 3, "rollout", "Video metrics by frame of the rollout", 2.7
        )
        blocks.append(Chart("By frame of the rollout, supervised model", chart))
    return Section("swr", "Sliding window re-encoding", blocks)


def _swr_pair(inputs: Inputs) -> tuple[str, str]:
    """The clip sets of plain autoregression and of SWR that the SWR gate compares."""
    pair = dig(inputs.spec, "evaluation", "gates", "swr") or {}
    return str(pair.get("against", "supervised.ar.greedy")), str(pair.get("model", "supervised.swr.greedy"))


def _n(metrics: Json) -> str:
    """The sample size for a caption; '' if it is not known."""
    count = dig(metrics, "n") or dig(metrics, "episodes")
    return f", n = {count} episodes" if isinstance(count, int) else ""


def _name_panel(panel: Panel, word: str, name: str) -> Panel:
    """A copy of a panel with `word` in its title replaced by `name`."""
    return Panel(
        panel.title.replace(title(word), name).replace(word, name),
        panel.x_label,
        panel.series,
        panel.y_label,
        panel.log,
        panel.at,
        panel.whole,
    )


def drift(inputs: Inputs) -> Section:
    """The growth of errors over frames, and the windows that it predicts."""
    blocks: list[Block] = []
    metrics = inputs.metrics.get("drift")
    panels = charts.panels(inputs.curves.get("drift", ()))
    if metrics or panels:
        blocks.append(Prose([DRIFT, *claims(metrics)]))
    if panels:
        chart = lines(panels, 2 if len(panels) in (2, 4) else 3, "drift", "Drift measurements", 2.5)
        blocks.append(Chart(f"Error by frame{_n(metrics)}", chart))
    if metrics:
        windows, ages = ("predicted", "swept", "bound"), ("epsilon", "floor")
        separate = (*windows, *ages, "independent_errors", "sampled")
        listed = [
            tables.by_number("Error by window: predicted, measured, Proposition 1's bound", metrics, windows, "W"),
            tables.by_number("One-step error by age of the context", metrics, ages, "Age"),
            tables.flat("Derived quantities", metrics, separate),
            tables.flat("Derived quantities for independent errors", metrics.get("independent_errors"), windows),
            tables.flat("Derived quantities for sampled rollouts", metrics.get("sampled"), separate),
        ]
        blocks += [table for table in listed if table.rows]
    return Section("drift", "Drift", blocks)


def claims(metrics: Json) -> list[str]:
    """One paragraph on Proposition 1 and on the predicted windows; leaves out what was not measured."""
    alpha, sentences = dig(metrics, "alpha"), []
    if isinstance(alpha, int | float):
        if alpha >= 1:
            sentences.append(
                f"Proposition 1 does not apply: it assumes that errors shrink from frame to frame (alpha below 1), and "
                f"alpha is {alpha:.3f}, so neither bound exists."
            )
        else:
            bounds_by_window = dig(metrics, "bound") or {}
            autoregressive = dig(metrics, "bound_autoregressive")
            lowest = min(bounds_by_window.values(), default=None)
            if lowest is not None and isinstance(autoregressive, int | float):
                sentences.append(
                    f"With alpha = {alpha:.3f}, the lowest bound of Proposition 1 on the error of SWR is {lowest:.3f}, "
                    f"and its bound for plain autoregression is {autoregressive:.3f}. With equal alpha, the bound for "
                    "SWR is never lower, so the proposition does not explain a gain of SWR."
                )
    predicted, swept = dig(metrics, "predicted_window_swept"), dig(metrics, "swept_window")
    if isinstance(predicted, int) and isinstance(swept, int):
        verdict = "as measured" if predicted == swept else f"but the measured best is W = {swept}"
        sentences.append(f"Of the measured windows, the predicted best is W = {predicted}, {verdict}.")
    chosen = dig(metrics, "validation_window")
    if isinstance(chosen, int):
        sentences.append(
            f"With the drift measured on validation episodes, the predicted best of all windows is W = {chosen}, which "
            "the decoding SWR by drift uses."
        )
    return [" ".join(sentences)] if sentences else []


def clip_comparisons(inputs: Inputs) -> Section:
    """Episodes under several models, side by side."""
    if not inputs.showcases:
        return Section("clips", "Clips", [])
    blocks: list[Block] = [
        Prose(
            [
                "The first frame is recorded; all later frames are predicted from it and the recorded actions. "
                "Episodes are selected automatically: for each source, those whose rightmost clip has the highest, "
                f"median and lowest {scorer_words(showcase_scorer(inputs.spec))}. The numbers below the clips are "
                "these totals."
            ]
        )
    ]
    for showcase in inputs.showcases:
        still, numbers = strip_uri(showcase, inputs.stills)
        blocks.append(
            ClipComparison(
                f"{showcase.source}, {showcase.episode}",
                showcase.pick,
                showcase.instruction,
                [column.title for column in showcase.columns],
                [column.score for column in showcase.columns],
                animation_uri(showcase, CLIP_HEIGHT, inputs.fps),
                still,
                numbers,
            )
        )
    return Section("clips", "Clips", blocks)
