from dataclasses import replace

import numpy as np
import pytest
from annotate_fakes import MAXIMA, fake_pairs

from roboalign.annotate.agreement import agreement, kappa, table
from roboalign.bench.annotations import Annotation

PAIRS = fake_pairs(40)


def rows(six, rater, give, pairs=PAIRS, showing=1, kind="person"):
    """Annotations by `give`, a function of the labels (6,)."""
    return [
        Annotation(
            clip=pair.id,
            rater=rater,
            kind=kind,
            scores=dict(zip(six.names, map(float, give(np.array(pair.scores))), strict=True)),
            showing=showing,
        )
        for pair in pairs
    ]


def same(labels):
    return labels


def lower(labels):
    return np.maximum(labels - 0.5, 0)


def test_a_rater_who_gives_the_labels_agrees_perfectly(six):
    result = agreement(rows(six, "anna", same), PAIRS, six)["raters"]["anna"]
    assert result["n"] == 40
    for name in (*six.names, "total"):
        assert result[name]["mae"] == {"value": 0, "low": 0, "high": 0}
        assert result[name]["qwk"]["value"] == pytest.approx(1)


def test_errors_are_counted_in_points_with_their_direction(six):
    result = agreement(rows(six, "anna", lower), PAIRS, six)["raters"]["anna"]
    labels = np.array([pair.scores for pair in PAIRS])
    wrong = labels - np.maximum(labels - 0.5, 0)
    assert result["instruction_following"]["mae"]["value"] == pytest.approx(wrong[:, 0].mean())
    assert result["total"]["mae"]["value"] == pytest.approx(wrong.sum(1).mean())
    assert result["total"]["bias"] == pytest.approx(-wrong.sum(1).mean())
    assert result["total"]["mae"]["low"] < result["total"]["mae"]["value"] < result["total"]["mae"]["high"]


def test_kappa_is_cohens_with_quadratic_weights():
    a, b = np.array([0, 0, 1, 1, 2, 2, 2, 0]), np.array([0, 1, 1, 1, 2, 1, 2, 0])
    observed = np.zeros((3, 3))
    for x, y in zip(a, b, strict=True):
        observed[x, y] += 1 / len(a)
    weights = np.subtract.outer(np.arange(3), np.arange(3)) ** 2
    expected = np.outer(observed.sum(1), observed.sum(0))
    found = kappa(a.astype(float), b.astype(float), draws=500)
    assert found["value"] == pytest.approx(1 - (weights * observed).sum() / (weights * expected).sum())
    assert found["low"] < found["value"] < found["high"]


def test_kappa_is_left_out_where_nothing_varies():
    assert kappa(np.ones(5), np.ones(5)) is None
    assert "low" not in kappa(np.array([1.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0]))


def test_the_interval_of_kappa_covers_the_truth_about_as_often_as_it_says():
    # Raters with equal variances and correlation r have a kappa of r.
    rng, inside = np.random.default_rng(0), 0
    for seed in range(200):
        a = rng.normal(size=60)
        b = 0.6 * a + 0.8 * rng.normal(size=60)
        found = kappa(a, b, draws=400, seed=seed)
        inside += found["low"] <= 0.6 <= found["high"]
    assert 0.88 <= inside / 200 <= 0.99


def test_raters_are_compared_with_each_other_and_with_themselves(six):
    annotations = [
        *rows(six, "anna", same),
        *rows(six, "ben", lower, PAIRS[:25]),
        *rows(six, "model-7b", lower, kind="vlm"),
        *rows(six, "anna", lower, PAIRS[:5], showing=2),
    ]
    result = agreement(annotations, PAIRS, six)
    assert result["between"]["anna ~ ben"]["n"] == 25
    assert result["between"]["ben ~ model-7b"]["total"]["mae"]["value"] == 0
    assert result["repeats"].keys() == {"anna"}
    assert result["repeats"]["anna"]["n"] == 5
    assert result["repeats"]["anna"]["total"]["bias"] < 0
    assert result["raters"]["anna"]["n"] == 40  # second showings do not count twice
    assert result["people"]["n"] == 40
    assert result["people"]["raters"] == 2
    assert {key: entry["n"] for key, entry in result["people"]["by_provenance"].items()} == {
        "full_marks": 14, "rubric": 26,
    }  # fmt: skip


def test_labels_that_raters_gave_say_nothing_about_raters(six):
    rated = [replace(pair, provenance="people") if number < 30 else pair for number, pair in enumerate(PAIRS)]
    result = agreement(rows(six, "anna", same), rated, six)
    assert result["raters"]["anna"]["n"] == result["people"]["n"] == 10
    assert "people" not in result["people"]["by_provenance"]
    result = agreement(rows(six, "anna", same, PAIRS[:5]), rated, six)
    assert result["raters"]["anna"] == {"kind": "person", "n": 0}
    assert "no clip has a label that is independent of raters" in table(result, six.names)


def test_models_alone_are_no_people(six):
    result = agreement(rows(six, "model-7b", same, kind="vlm"), PAIRS, six)
    assert "people" not in result
    assert "between" not in result


def test_the_table_names_everyone_and_every_dimension(six):
    annotations = [*rows(six, "anna", same), *rows(six, "ben", lambda _: np.array(MAXIMA), PAIRS[:1])]
    text = table(agreement(annotations, PAIRS, six), six.names)
    assert "anna (person) against the labels, 40 clips" in text
    assert "ben (person) against the labels, 1 clip\n" in text
    assert all(name in text for name in six.names)
    assert "anna ~ ben, 1 clip" in text
    assert "-0.00" not in text
