"""Preferences are recovered from simulated raters; what is undefined is absent."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.preference.answers import Answer, read_answers
from roboalign.preference.results import results, table
from roboalign.preference.sample import SHUFFLED, TRUTH, ComparedPair, PairsError, StudyKey

SKILL = {"good": 1.5, "middle": 0.0, "bad": -1.5, TRUTH: 9.0, SHUFFLED: -9.0}
MODELS = ("bad", "good", "middle")


def study(episodes: int = 40) -> StudyKey:
    combos = [("bad", "good"), ("middle", "bad"), ("good", "middle"), (SHUFFLED, TRUTH)]
    pairs = tuple(
        ComparedPair(id=f"{4 * n + k:016x}", episode=f"e/{n}", a=a, b=b)
        for n in range(episodes)
        for k, (a, b) in enumerate(combos[: 4 if n < 4 else 3])
    )
    return StudyKey(study="0" * 16, models=MODELS, pairs=pairs)


def rate(key: StudyKey, rater: str, seed: int, sharpness: float = 1.0) -> list[Answer]:
    """The answers of a rater who chooses as Bradley and Terry's model says, with ties for one in ten."""
    rng = np.random.default_rng(seed)
    answers = []
    for pair in key.pairs:
        better = rng.random() < (1 + np.tanh(sharpness * (SKILL[pair.a] - SKILL[pair.b]) / 2)) / 2
        choice: Literal["a", "b", "tie"] = "a" if better else "b"
        if not pair.is_check and rng.random() < 0.1:
            choice = "tie"
        flipped = bool(rng.random() < 0.5)
        answers.append(Answer(study=key.study, pair=pair.id, rater=rater, choice=choice, flipped=flipped))
    return answers


def test_scores_recover_the_order_and_size_of_preferences() -> None:
    key = study()
    found = results([a for n, name in enumerate(("ann", "bob", "eve")) for a in rate(key, name, n)], key, draws=200)
    scores = found["bradley_terry"]
    assert sorted(scores, key=lambda name: scores[name]["score"]) == ["bad", "middle", "good"]
    for name in MODELS:
        assert scores[name]["score"] == pytest.approx(SKILL[name], abs=0.6)
        assert scores[name]["low"] < scores[name]["score"] < scores[name]["high"]
    assert scores["good"]["low"] > scores["middle"]["high"]
    assert found["win_rates"]["bad"]["good"]["high"] < 0.3
    assert found["win_rates"]["bad"]["good"]["n"] == 40
    assert 0.3 < found["krippendorff_alpha"] < 1
    assert found["left"]["low"] < 0.5 < found["left"]["high"]
    text = table(found)
    assert text.index("good ") < text.index("middle ")
    assert "Krippendorff's alpha: 0." in text


def test_raters_who_fail_attention_checks_are_left_out_and_named() -> None:
    key = study(8)
    careless = [
        Answer(study=key.study, pair=pair.id, rater="zoe", choice="a", flipped=False) for pair in key.pairs
    ]  # clip A is the shuffled one in all checks
    found = results([*rate(key, "ann", 0), *careless], key, draws=50)
    assert found["raters"]["zoe"] == {"answers": 24, "checks": 4, "passed": 0, "left_out": True}
    assert not found["raters"]["ann"]["left_out"]
    assert found["answers"] == 24
    assert "krippendorff_alpha" not in found, "one rater is left"
    assert "zoe: 24 answers, 0 of 4 attention checks; left out" in table(found)
    assert "no answers are left" in table(results(careless, key, draws=50))


def test_agreement_is_one_for_equal_choices_and_ties_are_half_wins() -> None:
    key = study(6)
    one = rate(key, "ann", 0, sharpness=50)
    both = [*one, *(answer.model_copy(update={"rater": "bob"}) for answer in one)]
    assert results(both, key, draws=50)["krippendorff_alpha"] == pytest.approx(1)
    ties = [
        Answer(study=key.study, pair=p.id, rater="ann", choice="tie", flipped=False)
        for p in key.pairs
        if not p.is_check
    ]
    found = results(ties, key, draws=50)
    assert all(value["score"] == pytest.approx(0, abs=1e-6) for value in found["bradley_terry"].values())
    assert found["win_rates"]["bad"]["good"]["mean"] == 0.5
    assert "left" not in found


def test_answers_survive_their_file(tmp_path: Path) -> None:
    key = study(3)
    answers = rate(key, "ann", 0)
    (tmp_path / "a.jsonl").write_text("".join(answer.model_dump_json() + "\n" for answer in answers))
    assert read_answers([tmp_path / "a.jsonl"], key) == answers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "1" * 16}, "study: 1111111111111111 is not the study of the key"),
        ({"pair": "f" * 16}, "the key has no pair"),
        ({"choice": "left"}, "choice: "),
        ({"seconds": -1}, "seconds: "),
        ({"score": 1}, "score: "),
        ({"rater": ""}, "rater: "),
    ],
)
def test_other_lines_are_refused_with_file_line_and_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    key = study(3)
    good = json.loads(rate(key, "ann", 0)[0].model_dump_json())
    file = tmp_path / "a.jsonl"
    file.write_text("\n" + json.dumps({**good, **change}) + "\n")
    with pytest.raises(PairsError, match=rf"a\.jsonl:2: .*{message}"):
        read_answers([file], key)


def test_a_pair_is_compared_once_by_a_rater(tmp_path: Path) -> None:
    key = study(3)
    line = rate(key, "ann", 0)[0].model_dump_json() + "\n"
    (tmp_path / "a.jsonl").write_text(line)
    (tmp_path / "b.jsonl").write_text(line)
    with pytest.raises(PairsError, match=r"b\.jsonl:1: rater: ann compared .* already at .*a\.jsonl:1"):
        read_answers([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], key)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_answers_or_are_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answers.jsonl"
        file.write_bytes(data)
        with suppress(PairsError):
            assert read_answers([file], study(3)) == []
