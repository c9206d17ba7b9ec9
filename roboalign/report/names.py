"""Names and number formats of the page."""

import re
from collections.abc import Mapping, Sequence

from roboalign.rollout.spec import BOUND
from roboalign.types import Json

MINUS, DASH, TIMES = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
"""Typographic characters in place of a hyphen and an x."""

FIRST = ("ground_truth", "reconstruction", "copy_context", "copy_last")
"""The first clip sets of every table, in this order; then come the other baselines, then aligned models."""

WORDS: Mapping[str, str] = {
    "ar": "AR",
    "swr": "SWR",
    "swr_anchored": "SWR, anchored",
    "swr_drift": "SWR by drift",
    "swr_entropy": "SWR by entropy",
    "swr_two_contexts": "SWR, two contexts",
    "kv_window": "KV window",
    "carry_tokens": "carried tokens",
    "true_refresh": "refresh with the true frame",
    "copy_context": "Copy of the context frame",
    "copy_last": "Copy of the last true frame",
    "ground_truth": "Ground truth",
    "reconstruction": "Reconstruction by the tokenizer",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "kl": "KL to the supervised model",
    "mae": "MAE",
    "constant_mae": "MAE of a constant",
    "qwk": "Quadratic kappa",
    "n": "n",
    "swept": "Measured",
}


SCORERS: Mapping[str, str] = {
    "student": "Student",
    "student_online": "Student, distilled online",
    "judge": "Judge",
    "held_out": "Held-out judge",
    "gold": "Gold",
}
"""Names of scorers, in the order of tables. Faithful scores have the suffix FAITHFUL."""

FAITHFUL = "_faithful"
"""Suffix of a scorer's name for its faithful scores: `gold_faithful`."""

SHORT: Mapping[str, str] = {
    "ar": "AR",
    "swr": "SWR",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "kl": "KL",
    "mae": "MAE",
    "mse": "MSE",
    "auc": "AUC",
    "rl": "RL",
    "roi": "ROI",
    "grpo": "GRPO",
    "cm": "(cm)",
    "mm": "(mm)",
    "newtons": "(N)",
}
"""Parts of names that are abbreviations or units."""


def title(name: str) -> str:
    """A name as a heading: `instruction_following` becomes `Instruction following`."""
    if name in WORDS:
        return WORDS[name]
    text = words(name)
    return text[:1].upper() + text[1:]


def words(name: str) -> str:
    """A name as words: `psnr_gain` becomes `PSNR gain`."""
    return " ".join(SHORT.get(part, part) for part in name.split("_"))


def model(name: str) -> str:
    """The heading of a clip set: `supervised.swr.greedy` becomes `Supervised · SWR · greedy`."""
    first, *rest = name.split(".")
    return " · ".join([WORDS.get(first) or title(window(first)), *(WORDS.get(part, window(part)) for part in rest)])


def window(part: str) -> str:
    """A part of a clip set's name as words: `swr_w4` becomes `SWR W = 4`, `w4` `W = 4`, `best_of_4` `best of 4 by the
    student`."""
    if part.startswith("best_of_"):
        return f"{words(part)} by the student"
    head, _, size = f"_{part}".rpartition("_w")
    return f"{words(head[1:])} W = {size}".lstrip() if size.isdigit() else words(part)


def scorer(name: str) -> str:
    """The heading of a scorer: `held_out_faithful` becomes `Held-out judge, faithful`."""
    base = name.removesuffix(FAITHFUL)
    return SCORERS.get(base, title(base)) + (", faithful" if name.endswith(FAITHFUL) else "")


def scorer_order(name: str) -> tuple[int, int, str]:
    """The sorting key of a scorer: the order of SCORERS, faithful before absolute scores, then others by name."""
    base = name.removesuffix(FAITHFUL)
    position = list(SCORERS).index(base) if base in SCORERS else len(SCORERS)
    return position, int(base == name), name


def is_bound(name: str) -> bool:
    """Whether a clip set uses true later frames, so that it is an upper bound and not a model."""
    return name in ("ground_truth", "reconstruction", "copy_last") or f".{BOUND}" in name


def order(name: str) -> tuple[int, str]:
    """The sorting key of a clip set in tables; numbers in names are ordered by value."""
    if name in FIRST:
        return FIRST.index(name), name
    by_value = re.sub(r"\d+", lambda digits: digits[0].zfill(6), name)
    return (len(FIRST) + (1 if name.startswith("aligned") else 0)), by_value


def number(value: float, digits: int = 2) -> str:
    """A number with `digits` decimals, a true minus sign, and no negative zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def significant(value: Json) -> str:
    """A number of any magnitude: integers with thin spaces, others with three or four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", "\u202f").replace("-", MINUS)
    if isinstance(value, float):
        text = f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"
        return text.replace("-", MINUS)
    return str(value)


def mean_of(value: Json) -> float | None:
    """The value of a metric, which is a number or an interval; None if it is neither."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def bounds(value: Json) -> tuple[float, float] | None:
    """The bounds of a metric's interval; None if it has none."""
    if isinstance(value, Mapping) and "low" in value and "high" in value:
        return float(value["low"]), float(value["high"])
    return None


def dig(value: Json, *path: str) -> Json:
    """The value at `path` in nested mappings; None if a key is absent."""
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def join_words(words: Sequence[str]) -> str:
    """Join words as `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def with_name(metrics: Json, name: str) -> Json:
    """A copy of `metrics` with `perceptual` in its keys replaced by the distance's `name`."""
    if not isinstance(metrics, Mapping):
        return metrics
    return {
        key if key == "perceptual_name" else key.replace("perceptual", name): with_name(value, name)
        for key, value in metrics.items()
    }
