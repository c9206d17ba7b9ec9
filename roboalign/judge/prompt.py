"""The prompt of a vision-language judge, the JSON that it answers with, and the parser of that answer.

The fixed text is in `prompts/score_clip.txt`. Everything here is a pure function of the reward and the clip's text;
images and videos are added by the judge that sends the prompt.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from roboalign.reward.spec import RewardSpec

DECIMALS = 2
"""Decimals of the scores in a training target and of the actions in a prompt."""


class AnswerError(ValueError):
    """An answer that cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """A judge's answer: scores in the order of the reward's dimensions, `faithful` None without actions."""

    rationale: str
    absolute: tuple[float, ...]
    faithful: tuple[float, ...] | None


@cache
def _template(part: str) -> Template:
    """The part `system` or `user` of the prompt template."""
    text = resources.files("roboalign.judge").joinpath("prompts/score_clip.txt").read_text(encoding="utf-8")
    system, user = text.removeprefix("== system\n").split("== user\n")
    return Template({"system": system, "user": user}[part].strip())


def system_prompt(reward: RewardSpec, *, actions: bool, rationale: bool = True) -> str:
    """The judge's task: the rubric of every dimension, what to score, and the form of the answer.

    Args:
        reward: Dimensions with their rubric and maximum score.
        actions: Whether the user prompt lists actions, and `faithful` scores are wanted.
        rationale: Whether the answer should explain the scores; if not, its `rationale` is the empty string.
    """
    rubric = "\n".join(
        f"- {name} (0 to {dimension.max_score:g}): {dimension.rubric}" for name, dimension in reward.dimensions.items()
    )
    scores = "Give the absolute score of each dimension: the rubric's score of what the video shows."
    if actions:
        scores = (
            "Give two scores of each dimension. absolute: the rubric's score of what the video shows. faithful: how "
            "far that agrees with what the listed actions would lead to on the real robot. It is the maximum if the "
            "real outcome would earn the same absolute score; each point of difference, up or down, costs one point."
        )
    keys = ["absolute", "faithful"] if actions else ["absolute"]
    example = ", ".join(f'"{name}": <number>' for name in reward.names)
    groups = ", ".join(f'"{key}": {{{example}}}' for key in keys)
    if rationale:
        answer = "Explain in a few sentences which dimensions lose points and why, then give the scores."
    else:
        answer = "Leave the rationale empty."
    answer += f' Answer with one JSON object and nothing after it:\n{{"rationale": "<text>", {groups}}}'
    return _template("system").substitute(rubric=rubric, scores=scores, answer=answer)


def format_actions(actions: Sequence[Sequence[float]]) -> str:
    """Actions (T - 1, A) as one line per step: `1: 0.50 -1.00 0.00`. Raises ValueError if one is not finite."""
    lines = []
    for step, action in enumerate(actions, start=1):
        if not all(math.isfinite(value) for value in action):
            raise ValueError(f"action {step} holds a value that is not finite; the judge cannot read it")
        # Adding 0.0 turns -0.0 into 0.0.
        numbers = " ".join(f"{round(value, DECIMALS) + 0.0:.{DECIMALS}f}" for value in action)
        lines.append(f"{step}: {numbers}")
    return "\n".join(lines)


def user_prompt(reward: RewardSpec, instruction: str, frames: int, actions: Sequence[Sequence[float]] | None) -> str:
    """The text that goes with one clip.

    Args:
        reward: Unused by the present template, which states the rubric in the system prompt.
        instruction: What the robot was told to do.
        frames: Number of frames shown, the initial one included.
        actions: Commands (T - 1, A) in [-1, 1] that lead from each frame of the clip to the next; None omits them.
    """
    listed = ""
    if actions is not None:
        listed = (
            f"Actions of the robot from the first to the last frame, one line per control step ({len(actions)} steps), "
            f"each number in [-1, 1]:\n{format_actions(actions)}\n"
        )
    return _template("user").substitute(instruction=instruction.strip(), frames=frames, actions=listed)


def answer_schema(reward: RewardSpec, *, actions: bool) -> dict[str, Any]:
    """The JSON Schema of an answer, `rationale` first so that it is written before the scores."""
    scores = {
        "type": "object",
        "properties": {
            name: {"type": "number", "minimum": 0, "maximum": dimension.max_score}
            for name, dimension in reward.dimensions.items()
        },
        "required": list(reward.names),
        "additionalProperties": False,
    }
    properties: dict[str, Any] = {"rationale": {"type": "string"}, "absolute": scores}
    if actions:
        properties["faithful"] = scores
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def render_answer(answer: ParsedAnswer, reward: RewardSpec) -> str:
    """The JSON text of an answer; `parse_answer` returns the same answer from it."""
    value: dict[str, Any] = {
        "rationale": answer.rationale,
        "absolute": dict(zip(reward.names, answer.absolute, strict=True)),
    }
    if answer.faithful is not None:
        value["faithful"] = dict(zip(reward.names, answer.faithful, strict=True))
    # `<\/` is the same text in JSON, and keeps a `</think>` within the rationale from ending the thinking.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("</", "<\\/")


def _lost_points(scores: Sequence[float], reward: RewardSpec) -> str:
    """`physics_adherence loses 0.5 of 2; …`, or that none loses points."""
    lost = [
        f"{name} loses {round(dimension.max_score - score, DECIMALS):g} of {dimension.max_score:g}"
        for (name, dimension), score in zip(reward.dimensions.items(), scores, strict=True)
        if round(dimension.max_score - score, DECIMALS) > 0
    ]
    return "; ".join(lost) if lost else "no dimension loses points"


def target_answer(
    reward: RewardSpec, absolute: Sequence[float], faithful: Sequence[float] | None, *, rationale: bool = True
) -> str:
    """The answer that a judge is trained to write for a labelled clip.

    Its rationale is derived from the labels, for want of written ones: it says which dimensions lose how many points,
    and begins with "By the labels".

    Raises:
        ValueError: A label is not finite.
    """
    if not all(math.isfinite(score) for score in (*absolute, *(faithful or ()))):
        raise ValueError("a label is not finite; train on clips whose dimensions all have labels")

    def round_scores(scores: Sequence[float]) -> tuple[float, ...]:
        return tuple(
            min(dimension.max_score, max(0.0, round(float(score), DECIMALS)))
            for dimension, score in zip(reward.dimensions.values(), scores, strict=True)
        )

    shown, agreement = round_scores(absolute), None if faithful is None else round_scores(faithful)
    text = ""
    if rationale:
        text = f"By the labels, in what the video shows {_lost_points(shown, reward)}."
        if agreement is not None:
            text += f" Compared with the real outcome of the actions, {_lost_points(agreement, reward)}."
    return render_answer(ParsedAnswer(text, shown, agreement), reward)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's pairs as a dictionary. Raises AnswerError on a repeated key."""
    result = dict(pairs)
    if len(result) < len(pairs):
        raise AnswerError("the answer names a key twice")
    return result


def _refuse_constant(name: str) -> float:
    raise AnswerError(f"the answer holds {name}, which is not a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _find_object(text: str) -> dict[str, Any]:
    """The JSON object with the key `absolute` in `text`; other text around it is passed over."""
    found: list[dict[str, Any]] = []
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except AnswerError:
            raise
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if "absolute" in value:
                found.append(value)
        start = text.find("{", end)
    if len(found) != 1:
        raise AnswerError(f"the answer holds {len(found)} JSON objects with the key 'absolute' instead of one")
    return found[0]


def _parse_group(value: Any, key: str, reward: RewardSpec) -> tuple[float, ...]:
    """The scores in a JSON object, in the order of the reward's dimensions."""
    if not isinstance(value, dict):
        raise AnswerError(f"'{key}' is not a JSON object")
    if extra := sorted(set(value) - set(reward.names)):
        raise AnswerError(f"'{key}' has the unknown dimension {extra[0][:64]!r}; known: {', '.join(reward.names)}")
    scores = []
    for name, dimension in reward.dimensions.items():
        if name not in value:
            raise AnswerError(f"'{key}' has no score for {name}")
        score = value[name]
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise AnswerError(f"'{key}.{name}' is not a number")
        if not 0 <= score <= dimension.max_score:
            raise AnswerError(f"'{key}.{name}' is outside 0 to {dimension.max_score:g}")
        scores.append(float(score))
    return tuple(scores)


def parse_answer(text: str, reward: RewardSpec, *, actions: bool) -> ParsedAnswer:
    """The scores in a judge's answer.

    The JSON object may follow a `<think>` block, or reasoning up to `</think>` (chat templates of thinking models open
    the block in the prompt), and may stand between other text such as a Markdown fence.

    Args:
        text: What the judge wrote.
        reward: Dimensions that must be scored, and their maximum scores.
        actions: Whether `faithful` scores must be present; without actions they must be absent.

    Raises:
        AnswerError: The answer has no such object, or a dimension is missing, unknown or out of its range.
    """
    _, closed, after = text.rpartition("</think>")
    if not closed and "<think>" in text:
        raise AnswerError("the answer ends within its <think> block; allow more tokens")
    value = _find_object(after)
    wanted = ("rationale", "absolute", "faithful") if actions else ("rationale", "absolute")
    if extra := sorted(set(value) - set(wanted)):
        raise AnswerError(f"the answer has the unknown key {extra[0][:64]!r}; known: {', '.join(wanted)}")
    if missing := [key for key in wanted if key not in value]:
        raise AnswerError(f"the answer has no key {missing[0]!r}")
    if not isinstance(value["rationale"], str):
        raise AnswerError("'rationale' is not a text")
    absolute = _parse_group(value["absolute"], "absolute", reward)
    faithful = _parse_group(value["faithful"], "faithful", reward) if actions else None
    return ParsedAnswer(value["rationale"], absolute, faithful)
