"""The table of gates: the verdict of each, what it means, its rule and its values."""

from collections.abc import Mapping

from roboalign.report.blocks import Cell, Table
from roboalign.report.names import FIRST, dig, model, significant, title, words
from roboalign.report.tables import interval_note
from roboalign.types import Json

ALIGNED = "aligned_above_supervised_"

MEANINGS: Mapping[str, str] = {
    "codec_above_copy_context": "The tokenizer transmits motion. Otherwise the world model has nothing to learn from.",
    "world_model_above_copy_context": "The world model predicts change, instead of repeating the first frame.",
    "action_gap": "The world model follows its actions: wrong actions give worse frames.",
    "motion_ratio": "Alignment neither freezes videos nor makes them flicker, two cheap ways to please a reward.",
    "motion_against_truth": "Rollouts move about as much as the recorded robots do.",
    "swr_above_ar": "Re-encoding in windows makes long rollouts better than plain autoregression.",
    "student_gold_agreement": "The student, the fast reward, ranks rollouts of one prompt as the true outcome does.",
    "fidelity": "Alignment does not pay for a higher score with frames and positions further from the truth.",
    "false_success": "Alignment does not teach the model to show successes that would not happen.",
    f"{ALIGNED}student": "The student sees the gain. It is trained in the loop, so this is no evidence by itself.",
    f"{ALIGNED}judge": "The judge, from which the reward is distilled, sees the gain, too.",
    f"{ALIGNED}held_out": "A judge that alignment is not trained on sees the gain: it is not only reward hacking.",
    f"{ALIGNED}gold": "The simulator's rubric against the true outcome confirms the gain. The strictest gate.",
}
"""The meaning of each gate of the evaluation."""


def gate_order(evaluation: Json) -> list[str]:
    """The names of the gates in the order of their table: failed, passed, then not measured."""
    measured: Mapping[str, Json] = dig(evaluation, "gates") or {}
    return [
        *sorted(measured, key=lambda name: (bool(measured[name]["passed"]), name)),
        *sorted(dig(evaluation, "gates_not_measured") or {}),
    ]


def gates(evaluation: Json) -> Table:
    """The table of all gates in the order of `gate_order`."""
    rows: list[list[Cell]] = []
    measured: Mapping[str, Json] = dig(evaluation, "gates") or {}
    missing: Mapping[str, str] = dig(evaluation, "gates_not_measured") or {}
    for name in gate_order(evaluation):
        if name in measured:
            gate = measured[name]
            verdict = Cell("passed", tone="good") if gate["passed"] else Cell("failed", tone="bad")
            values = Cell(_sentence(gate["rule"]), _figures(gate["figures"]))
        else:
            verdict, values = Cell("not measured", tone="muted"), Cell(_sentence(words(missing[name])))
        rows.append([Cell(title(name)), verdict, Cell(MEANINGS.get(name, "")), values])
    passed = sum(bool(gate["passed"]) for gate in measured.values())
    caption = f"{passed} passed, {len(measured) - passed} failed, {len(missing)} not measured"
    fields = ("evaluation.gates", "evaluation.aligned")
    return Table(caption, ["Gate", "Verdict", "Meaning", "Rule and values"], rows, fields=fields, wrapped=True)


def _sentence(text: str) -> str:
    """`text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def _figures(figures: Mapping[str, Json]) -> str:
    """The values of a gate in one line; `mean`, `low`, `high` and `n` of one quantity are joined to one interval."""
    grouped: dict[str, dict[str, Json]] = {}
    for key, value in figures.items():
        base, part = _split(key)
        grouped.setdefault(base, {})[part] = value
    parts = []
    for base, values in grouped.items():
        if {"mean", "low", "high"} <= set(values):
            text = f"{significant(values['mean'])} ({interval_note(values)})"
            parts.append(f"{_figure_name(base).rstrip(':')}: {text}" if base else text)
        else:
            parts += [f"{_figure_name(f'{base} {part}'.strip())} {significant(v)}" for part, v in values.items()]
    return " · ".join(parts)


def _split(key: str) -> tuple[str, str]:
    """Split a value's key into its name and the part of an interval ('' for none): `best of 16 low 8 frames` is `low`
    of `best of 16, 8 frames`."""
    key_words = key.split(" ")
    for part in ("mean", "low", "high", "n"):
        if part in key_words:
            index = key_words.index(part)
            return ", ".join(filter(None, (" ".join(key_words[:index]), " ".join(key_words[index + 1 :])))), part
    return key, ""


def _figure_name(key: str) -> str:
    """The name of a value: clip sets by their headings in tables, anything else as words."""
    first, *rest = key.split(" ")
    if "." in first or first in FIRST:
        return " ".join([model(first), *map(words, rest)]) + ":"
    return words(key.replace(" ", "_"))
