import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roboalign.judge.prompt import (
    AnswerError,
    ParsedAnswer,
    answer_schema,
    format_actions,
    parse_answer,
    render_answer,
    system_prompt,
    target_answer,
    user_prompt,
)
from roboalign.reward.spec import RewardSpec

SIX = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))
FULL = SIX.max_scores


def scores() -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(*(st.floats(0, maximum) for maximum in FULL))


rationales = st.text() | st.sampled_from(["{} </think>", "<think>", '{"absolute": {}}'])
answers = st.builds(ParsedAnswer, rationales, scores(), st.none() | scores())


def answer(**changes: object) -> str:
    value = {"rationale": "good", "absolute": dict(zip(SIX.names, FULL, strict=True))} | changes
    return json.dumps(value)


def test_the_system_prompt_states_rubric_scores_and_form():
    text = system_prompt(SIX, actions=False)
    assert text.startswith("You judge videos of robot manipulation.")
    assert "- manipulation_success (0 to 2): 2: at the last frame the task is done." in text
    assert all(dimension.rubric in text for dimension in SIX.dimensions.values())
    assert '{"rationale": "<text>", "absolute": {"instruction_following": <number>, ' in text
    assert "faithful" not in text
    assert "$" not in text


def test_faithful_scores_are_asked_for_with_actions_only():
    text = system_prompt(SIX, actions=True)
    assert "faithful: how far that agrees with what the listed actions would lead to" in text
    assert '"faithful": {"instruction_following": <number>' in text


def test_the_prompt_asks_for_a_rationale_unless_told_otherwise():
    assert "Explain in a few sentences" in system_prompt(SIX, actions=False)
    assert "Leave the rationale empty." in system_prompt(SIX, actions=False, rationale=False)


def test_the_user_prompt_names_instruction_frames_and_actions():
    assert user_prompt(SIX, "push the $block", 8, None) == (
        "Instruction: push the $block\n"
        "The video has 8 frames in order of time; the first one is the recorded initial frame.\n"
        "\nScore the video."
    )
    text = user_prompt(SIX, "push", 3, [[0.5, -1.0], [0.123, -0.001]])
    assert "one line per control step (2 steps), each number in [-1, 1]:\n1: 0.50 -1.00\n2: 0.12 0.00\n" in text


def test_actions_must_be_finite():
    with pytest.raises(ValueError, match="action 2 holds a value that is not finite"):
        format_actions([[0.0], [math.nan]])


def test_the_schema_demands_every_dimension_in_range_and_the_rationale_first():
    schema = answer_schema(SIX, actions=True)
    assert list(schema["properties"]) == schema["required"] == ["rationale", "absolute", "faithful"]
    absolute = schema["properties"]["absolute"]
    assert absolute["required"] == list(SIX.names)
    assert absolute["properties"]["instruction_following"] == {"type": "number", "minimum": 0, "maximum": 3}
    assert schema["additionalProperties"] is absolute["additionalProperties"] is False
    assert "faithful" not in answer_schema(SIX, actions=False)["properties"]


def test_the_target_rounds_scores_and_says_that_its_rationale_is_of_the_labels():
    text = target_answer(SIX, [3, 1.004, 1, 1, 1, 1.5], [3, 0, 1, 1, 1, 2])
    parsed = parse_answer(text, SIX, actions=True)
    assert parsed.absolute == (3, 1.0, 1, 1, 1, 1.5)
    assert parsed.faithful == (3, 0, 1, 1, 1, 2)
    assert parsed.rationale == (
        "By the labels, in what the video shows manipulation_success loses 1 of 2; physics_adherence loses 0.5 of 2. "
        "Compared with the real outcome of the actions, manipulation_success loses 2 of 2."
    )
    full = parse_answer(target_answer(SIX, FULL, None), SIX, actions=False)
    assert full == ParsedAnswer("By the labels, in what the video shows no dimension loses points.", FULL, None)
    assert parse_answer(target_answer(SIX, FULL, None, rationale=False), SIX, actions=False).rationale == ""


def test_a_target_needs_every_label():
    with pytest.raises(ValueError, match="a label is not finite"):
        target_answer(SIX, FULL, [math.nan, *FULL[1:]])


@pytest.mark.parametrize(
    "text",
    [
        answer(),
        f"<think>maybe {{2}} points</think>\n\n{answer()}",
        f"no {{braces}} help, {{}}\n</think>\n```json\n{answer()}\n```",
        f"The arm moves. {answer()}<|im_end|>",
    ],
)
def test_the_answer_is_found_after_thinking_and_in_a_fence(text):
    assert parse_answer(text, SIX, actions=False) == ParsedAnswer("good", FULL, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds 0 JSON objects"),
        ("<think>so long", "ends within its <think> block"),
        (answer() + answer(), "holds 2 JSON objects"),
        (answer()[:-3], "holds 0 JSON objects"),
        (answer(score=3), "unknown key 'score'"),
        (answer(faithful={}), "unknown key 'faithful'"),
        (answer(rationale=3), "'rationale' is not a text"),
        ('{"absolute": {}}', "no key 'rationale'"),
        (answer(absolute=[1, 2]), "'absolute' is not a JSON object"),
        (answer(absolute={}), "'absolute' has no score for instruction_following"),
        (answer().replace("instruction_following", "speed"), "unknown dimension 'speed'"),
        (answer().replace("3.0", "3.1"), "'absolute.instruction_following' is outside 0 to 3"),
        (answer().replace("3.0", "1e999"), "outside 0 to 3"),
        (answer().replace("3.0", "1" * 500), "outside 0 to 3"),
        (answer().replace("3.0", "-1"), "outside 0 to 3"),
        (answer().replace("3.0", "true"), "is not a number"),
        (answer().replace("3.0", '"3"'), "is not a number"),
        (answer().replace("3.0", "NaN"), "NaN, which is not a number"),
        (answer().replace("manipulation_success", "instruction_following"), "names a key twice"),
        ('{"a":' * 5000, "holds 0 JSON objects"),
    ],
)
def test_unusable_answers_are_refused_with_the_reason(text, message):
    with pytest.raises(AnswerError, match=message):
        parse_answer(text, SIX, actions=False)


def test_an_answer_about_actions_needs_faithful_scores():
    with pytest.raises(AnswerError, match="no key 'faithful'"):
        parse_answer(answer(), SIX, actions=True)


@given(answers)
def test_a_rendered_answer_parses_to_itself(value):
    text = render_answer(value, SIX)
    assert parse_answer(f"reasons\n</think>\n{text}", SIX, actions=value.faithful is not None) == value


@given(answers, st.data())
def test_damage_raises_nothing_but_an_answer_error(value, data):
    text = render_answer(value, SIX)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 20)))
        damage = st.text(max_size=8) | st.sampled_from(["{", "}", '"', "1e999", "NaN", "[", "</think>", ":", ","])
        text = text[:start] + data.draw(damage) + text[end:]
    try:
        parsed = parse_answer(text, SIX, actions=data.draw(st.booleans()))
    except AnswerError:
        return
    assert all(0 <= score <= maximum for score, maximum in zip(parsed.absolute, FULL, strict=True))
