import pytest
from pydantic import ValidationError

from roboalign.rollout.spec import BOUND, ArSpec, RolloutSpec, SwrSpec
from roboalign.rollout.suite import rollout_sets
from roboalign.spec.base import FieldError

WINDOWS = {"ar": {"kind": "ar"}, "swr": {"kind": "swr"}, "kv_window": {"kind": "kv_window"}}


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ({"decodings": WINDOWS | {"swr": {"kind": "swr", "window": 31}}}, "decodings.swr.window", "above the horizon"),
        (
            {"decodings": WINDOWS | {"kv": {"kind": "kv_window", "frames": 31}}, "sampling": {"greedy": ["ar", "kv"]}},
            "decodings.kv.frames",
            "above the horizon of 30",
        ),
        (
            {"sweep": ["wide"], "decodings": WINDOWS | {"wide": {"kind": "swr", "window": 40}}},
            "decodings.wide.window",
            "40 is above",
        ),
        ({"measured_every": 31}, "measured_every", "above the horizon"),
        ({"drift": {"starts": [26], "steps": 6}}, "drift", "ends beyond the horizon"),
        ({"drift": {"ages": [1, 31]}}, "drift", "age 31 is above"),
        ({"sampling": {"greedy": ["swr"]}}, "sampling.greedy", "the baseline `ar`"),
        ({"aligned_decodings": ["swr"]}, "aligned_decodings", "the baseline `ar`"),
        ({"sampling": {"greedy": ["ar", "swr", "swrr"]}}, "sampling.greedy.2", "'swrr' is not a name in decodings"),
        ({"baseline": "swr"}, "baseline", "'swr' is not of kind ar"),
        ({"scored_decoding": "ar"}, "scored_decoding", "'ar' is not of kind swr"),
        ({"sweep": ["kv_window"]}, "sweep.0", "'kv_window' is not of kind swr"),
        ({"decodings": {"a": {"kind": "swr_entropy", "shortest": 5, "longest": 4}}}, "decodings", "below shortest"),
        ({"sweep": ["swr", "swr"]}, "sweep", "listed twice"),
    ],
)
def test_what_does_not_fit_is_refused_at_its_field(fields: dict[str, object], place: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RolloutSpec.model_validate({"horizon": 30, "sampling": {"greedy": ["ar", "swr"]}} | fields)
    [error] = caught.value.errors()
    cause = error.get("ctx", {}).get("error")
    assert (cause.field if isinstance(cause, FieldError) and not error["loc"] else error["loc"][0]) == place
    assert message in error["msg"]


def test_every_set_is_compared_with_one_made_before_it() -> None:
    sets = rollout_sets(RolloutSpec())
    names = [one.name for one in sets]
    assert len(names) == len(set(names))
    for one in sets:
        assert names.index(one.base) <= names.index(one.name)
    assert {"supervised.swr.greedy", "aligned.swr.sampled", "supervised.kv_window.sampled"} <= set(names)
    assert "supervised.true_refresh.sampled" not in names
    assert "aligned.kv_window.greedy" not in names


def test_names_of_decodings_that_see_true_frames_begin_alike_and_no_others_do() -> None:
    decodings = {"ar": {"kind": "ar"}, "swr": {"kind": "swr"}, "true_refresh_w4": {"kind": "true_refresh", "window": 4}}
    fields = {"decodings": decodings, "sampling": {"greedy": ["ar", "swr", "true_refresh_w4"]}}
    assert RolloutSpec.model_validate(fields).decodings["true_refresh_w4"].sees_true_frames
    for name, kind in (("peeking", "true_refresh"), ("true_refresh_of_none", "ar")):
        with pytest.raises(ValidationError, match=f"begin with {BOUND}.* rename it"):
            RolloutSpec.model_validate(fields | {"decodings": decodings | {name: {"kind": kind}}})


@pytest.mark.parametrize(
    ("fields", "models"),
    [
        ({}, ("supervised", "aligned")),
        ({"aligned_decodings": ["ar"]}, ("supervised",)),
        ({"best_of": 0}, ()),
    ],
)
def test_best_of_n_picks_from_the_models_that_have_the_scored_decoding(
    fields: dict[str, object], models: object
) -> None:
    assert RolloutSpec.model_validate(fields).best_of_models == models


def test_other_decodings_are_named_freely() -> None:
    fields = {
        "decodings": {
            "plain": {"kind": "ar"},
            "six": {"kind": "swr", "window": 6},
            "twelve": {"kind": "swr", "window": 12},
            "kv8": {"kind": "kv_window", "frames": 8},
            "unused": {"kind": "swr", "window": 90},
        },
        "sampling": {"sampled": ["plain", "six", "kv8"]},
        "aligned_decodings": ["plain", "six"],
        "baseline": "plain",
        "scored_decoding": "six",
        "sweep": ["twelve"],
    }
    spec = RolloutSpec.model_validate(fields)
    assert [one.name for one in rollout_sets(spec)] == [
        "supervised.plain.sampled", "supervised.six.sampled", "supervised.kv8.sampled",
        "aligned.plain.sampled", "aligned.six.sampled",
    ]  # fmt: skip
    assert {one.base for one in rollout_sets(spec)} == {"supervised.plain.sampled", "aligned.plain.sampled"}
    assert spec.windows == [6, 12, 30]
    assert "unused" not in spec.used_decodings


@pytest.mark.parametrize(("window", "expected"), [(None, [(0, 7)]), (3, [(0, 3), (3, 6), (6, 7)]), (9, [(0, 7)])])
def test_segments_cover_the_horizon_once(window: int | None, expected: list[tuple[int, int]]) -> None:
    spec = ArSpec() if window is None else SwrSpec(window=window)
    assert spec.segments(7) == expected
