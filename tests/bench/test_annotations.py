import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboalign.bench.annotations import Annotation, AnnotationError, average, parse, read_annotations

CLIP, OTHER = "0123456789abcdef", "fedcba9876543210"


def row(six, clip=CLIP, rater="anna", kind="person", share=1.0, **change):
    scores = {name: share * maximum for name, maximum in zip(six.names, six.max_scores, strict=True)}
    return {"clip": clip, "rater": rater, "kind": kind, "scores": scores} | change


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_what_is_written_is_read(six, tmp_path):
    annotations = [Annotation.model_validate(row(six, comment="fell over"))]
    path = tmp_path / "people.jsonl"
    path.write_text("\n" + "".join(a.line() for a in annotations), encoding="utf-8")
    assert list(read_annotations([str(path), written(tmp_path / "b.jsonl", row(six, OTHER))], six))[:1] == annotations


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x1c"])
def test_only_a_line_feed_ends_a_line(six, tmp_path, mark):
    annotations = [Annotation.model_validate(row(six, comment=f"a{mark}b", rater=f"x{mark}"))]
    path = tmp_path / "people.jsonl"
    path.write_text("".join(a.line() for a in annotations), encoding="utf-8")
    assert list(read_annotations([str(path)], six)) == annotations


def test_any_filesystem_will_do(six, tmp_path):
    import fsspec

    with fsspec.open("memory://labels/people.jsonl", "wt") as file:
        file.write(json.dumps(row(six)) + "\n")
    assert len(read_annotations(["memory://labels/people.jsonl"], six, {CLIP})) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": "nonsense"}, "clip"),
        ({"clip": "0000000000000000"}, "no clip 0000000000000000"),
        ({"kind": "dog"}, "kind"),
        ({"rater": ""}, "rater"),
        ({"colour": 1}, "colour"),
        ({"scores": {"beauty": 1.0}}, r"scores\.beauty: the reward has no such dimension"),
        ({"scores": {"instruction_following": 1.0}}, "manipulation_success, .* is missing"),
    ],
)
def test_errors_name_file_line_and_field(six, tmp_path, change, message):
    path = written(tmp_path / "people.jsonl", row(six), row(six) | {"rater": "ben"} | change)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_annotations([path], six, {CLIP})
    assert str(caught.value).startswith(f"{path}:2: ")


@pytest.mark.parametrize("value", [-0.1, 3.1, "2", None, True])
def test_scores_out_of_range_are_refused(six, value):
    bad = row(six)
    bad["scores"]["instruction_following"] = value
    with pytest.raises(AnnotationError, match="instruction_following"):
        parse(json.dumps(bad), "a:1", six)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"clip": NaN}'])
def test_a_line_that_is_no_annotation_is_refused(six, text):
    with pytest.raises(AnnotationError, match=r"^a:7: "):
        parse(text, "a:7", six)


def test_twice_the_same_rater_is_refused(six, tmp_path):
    path = written(tmp_path / "people.jsonl", row(six), row(six, OTHER), row(six, share=0.5))
    with pytest.raises(AnnotationError, match=r"people.jsonl:3: rater: anna scored .*people.jsonl:1"):
        read_annotations([path], six)


def test_a_missing_file_is_named(six, tmp_path):
    with pytest.raises(AnnotationError, match=r"nowhere\.jsonl"):
        read_annotations([str(tmp_path / "nowhere.jsonl")], six)


def test_people_outweigh_models(six):
    annotations = [
        Annotation.model_validate(row(six, rater="a", share=0.5)),
        Annotation.model_validate(row(six, rater="b", share=1.0)),
        Annotation.model_validate(row(six, rater="m", kind="vlm", share=0.0)),
        Annotation.model_validate(row(six, OTHER, rater="m", kind="vlm", share=0.25)),
    ]
    means = average(annotations, six.names)
    scores, kind, raters = means[CLIP]
    assert scores == pytest.approx(0.75 * np.array(six.max_scores))
    assert (kind, raters) == ("person", 2)
    assert means[OTHER][1:] == ("vlm", 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_mean_lies_between_the_raters(six, shares):
    rows = [Annotation.model_validate(row(six, rater=str(n), share=share)) for n, share in enumerate(shares)]
    scores, _, _ = average(rows, six.names)[CLIP]
    maxima = np.array(six.max_scores)
    assert (scores >= min(shares) * maxima - 1e-9).all()
    assert (scores <= max(shares) * maxima + 1e-9).all()
