"""The answers of raters: JSON Lines, one choice of one rater a line, as the page of a study gives them for download."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roboalign.io import json_lines
from roboalign.preference.sample import PairsError, StudyKey


class Answer(BaseModel):
    """One rater's choice in one pair."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    study: str
    """The study's hash."""
    pair: str
    """The pair's id."""
    rater: Annotated[str, Field(min_length=1, max_length=64)]
    choice: Literal["a", "b", "tie"]
    """The better clip of the pair, whichever side it was on, or neither."""
    flipped: bool
    """Whether clip B was on the left."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Time from the first frame to the choice."""


def read_answers(files: Sequence[Path], key: StudyKey) -> list[Answer]:
    """All answers in `files`.

    Raises PairsError, with file and line, for a line that is not an answer, of another study or pair, or given twice.
    """
    pairs, found = {pair.id for pair in key.pairs}, dict[tuple[str, str], str]()
    answers = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PairsError(f"{file} cannot be read ({error}); give files that raters downloaded") from None
        for number, line in json_lines(text):
            place = f"{file}:{number}"
            try:
                answer = Answer.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"])) or "line"
                raise PairsError(f"{place}: {field}: {first['msg']}") from None
            if answer.study != key.study:
                raise PairsError(
                    f"{place}: study: {answer.study} is not the study of the key ({key.study}); give its own key file"
                )
            if answer.pair not in pairs:
                raise PairsError(f"{place}: pair: the key has no pair {answer.pair}")
            earlier = found.setdefault((answer.rater, answer.pair), place)
            if earlier != place:
                raise PairsError(
                    f"{place}: rater: {answer.rater} compared {answer.pair} already at {earlier}; remove one line"
                )
            answers.append(answer)
    return answers
