"""The sections of results: gates, sliding window re-encoding, drift, clips."""

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Chart, Film, Prose, Section
from roboalign.report.clips import animation_uri, strip_uri
from roboalign.report.inputs import Inputs, perceptual
from roboalign.report.names import FIRST, dig, title
from roboalign.report.plots import Panel, lines
from roboalign.report.scorers import scorer_words
from roboalign.report.showcases import showcase_scorer
from roboalign.types import Json

DRIFT = (
    "Errors are root mean squared errors of pixels in [0, 1]. Epsilon is the one-step error under a true context of "
    "that age, less the codec's own floor; delta is what re-encoding a generated frame costs; alpha is by how much a "
    "deviation shrinks from frame to frame. From them follow the error of each window and the best one, to be "
    "compared with what was measured; the widest window is plain autoregression."
)

FILM_HEIGHT = 128
"""Rows of one clip in an animation, in pixels, at least."""


def gates(inputs: Inputs) -> Section:
    """The gates."""
    evaluation = inputs.metrics.get("evaluation")
    if dig(evaluation, "gates") is None:
        return Section("gates", "Gates", [])
    prose = Prose(
        [
            "A gate is a claim that has to hold before the figures further down mean anything. A failed gate is a "
            "result, too; a gate whose figures are absent counts as neither."
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
    ("motion_ratio", "Motion over the truth's (1 is best)", 2),
    ("flicker", "Flicker", 4),
    ("repeated_frames", "Repeated frames (share)", 3),
    ("frechet", "Fréchet distance, frames (lower is better)", 5),
    ("frechet_motion", "Fréchet distance, frames with change (lower is better)", 5),
)
"""The columns of what a video does over time and what a set of clips looks like: key, heading, decimals."""


def over_time_note(rollout: Json) -> str:
    """How to read the columns of OVER_TIME."""
    text = (
        "Motion: mean square of frame differences, over that of the true future. Flicker: how far frames lie from the "
        "mean of their two neighbours; read it beside the ground truth's."
    )
    name = dig(rollout, "frechet_name")
    if not isinstance(name, str):
        return text
    return (
        f"{text} {name}: of the whole set to the true clips, so it asks whether frames look real, not whether they are "
        "the right ones: copies of a true frame come out well where only frames are compared. In the ground truth's "
        "row, for scale, that of every second true clip to the others, which show other scenes. It is neither FID nor "
        "FVD, has no interval, and is biased upwards on few frames; compare within this table alone."
    )


def sliding_window(inputs: Inputs) -> Section:
    """SWR against the other decodings."""
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
    table = tables.less_autoregression(others, columns, f"Each decoding less plain autoregression{_n(rollout)}")
    blocks += [table] if table.rows else []
    for entries, caption in ((others, "All models and decodings"), (sweep, "SWR by window")):
        table = tables.decodings(entries, columns, caption + _n(rollout))
        if table.rows and len(table.head) > 1:
            blocks.append(table)
    table = tables.decodings(others, OVER_TIME, f"Over time, and as whole sets{_n(rollout)}", over_time_note(rollout))
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
    pair = dig(inputs.spec, "evaluation", "gates", "swr") or {}
    return str(pair.get("against", "supervised.ar.greedy")), str(pair.get("model", "supervised.swr.greedy"))


def _n(metrics: Json) -> str:
    count = dig(metrics, "n") or dig(metrics, "episodes")
    return f", n = {count} episodes" if isinstance(count, int) else ""


def _name_panel(panel: Panel, word: str, name: str) -> Panel:
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
    """Error growth, and the window that it predicts."""
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
            tables.flat("What follows", metrics, separate),
            tables.flat("What follows if errors are independent", metrics.get("independent_errors"), windows),
            tables.flat("The same for sampled rollouts", metrics.get("sampled"), separate),
        ]
        blocks += [table for table in listed if table.rows]
    return Section("drift", "Drift", blocks)


def claims(metrics: Json) -> list[str]:
    """What the measurements say of Proposition 1 and of the recursion, in sentences; nothing of what is absent."""
    alpha, sentences = dig(metrics, "alpha"), []
    if isinstance(alpha, int | float):
        if alpha >= 1:
            sentences.append(
                f"Proposition 1 does not apply here: it needs errors that shrink from frame to frame, and alpha is "
                f"{alpha:.3f}, so neither bound exists."
            )
        else:
            limits = dig(metrics, "bound") or {}
            plain = dig(metrics, "bound_autoregressive")
            least = min(limits.values(), default=None)
            if least is not None and isinstance(plain, int | float):
                sentences.append(
                    f"With alpha {alpha:.3f}, Proposition 1 bounds the error of SWR by {least:.3f} at best and that of "
                    f"plain autoregression by {plain:.3f}: at equal alpha its bound is never the smaller one, so it "
                    "does not explain a gain of SWR."
                )
    predicted, swept = dig(metrics, "predicted_window_swept"), dig(metrics, "swept_window")
    if isinstance(predicted, int) and isinstance(swept, int):
        verdict = "as measured" if predicted == swept else f"but W = {swept} was measured to be best"
        sentences.append(f"Of the windows tried, the recursion calls W = {predicted} best, {verdict}.")
    chosen = dig(metrics, "validation_window")
    if isinstance(chosen, int):
        sentences.append(
            f"By the drift on validation episodes, it calls W = {chosen} best of all: that of SWR by drift."
        )
    return [" ".join(sentences)] if sentences else []


def films(inputs: Inputs) -> Section:
    """Clips side by side."""
    if not inputs.showcases:
        return Section("clips", "Clips", [])
    blocks: list[Block] = [
        Prose(
            [
                "The first frame is given; all later ones are predicted from it and the recorded actions. The episodes "
                "were chosen by rule, not by hand: of each source the one whose rightmost clip has the highest, the "
                f"median and the lowest {scorer_words(showcase_scorer(inputs.spec))}. Figures below the clips are "
                "those totals."
            ]
        )
    ]
    for showcase in inputs.showcases:
        still, numbers = strip_uri(showcase, inputs.stills)
        blocks.append(
            Film(
                f"{showcase.source}, {showcase.episode}",
                showcase.pick,
                showcase.instruction,
                [lane.title for lane in showcase.lanes],
                [lane.score for lane in showcase.lanes],
                animation_uri(showcase, FILM_HEIGHT, inputs.fps),
                still,
                numbers,
            )
        )
    return Section("clips", "Clips", blocks)
