"""The section on drift: the growth of errors over frames, and the windows that it predicts."""

from roboalign.report import charts, tables
from roboalign.report.blocks import Block, Prose, Section
from roboalign.report.inputs import Inputs, sample_size
from roboalign.report.names import dig
from roboalign.report.plots import line_chart
from roboalign.types import Json

DRIFT = (
    "Errors are root mean squared errors of pixels in [0, 1]. Epsilon: one-step error with a true context of a given "
    "age, minus the tokenizer's reconstruction error. Delta: error added by re-encoding a generated frame. Alpha: "
    "factor by which a deviation shrinks from frame to frame. They predict the error of each window and the best "
    "window, which are compared with measurements; the widest window is plain autoregression."
)


def drift(inputs: Inputs) -> Section:
    """The growth of errors over frames, and the windows that it predicts."""
    blocks: list[Block] = []
    metrics = inputs.metrics.get("drift")
    panels = charts.panels(inputs.curves.get("drift", ()))
    if metrics or panels:
        blocks.append(Prose([DRIFT, *claims(metrics)]))
    if panels:
        fields = ("rollout.drift", "rollout.decodings", "rollout.sweep")
        blocks.append(line_chart(f"Error by frame{sample_size(metrics)}", panels, "drift", fields))
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
