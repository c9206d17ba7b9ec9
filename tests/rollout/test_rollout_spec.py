import pytest
from pydantic import ValidationError

from roboalign.rollout.spec import DecodingName, RolloutSpec
from roboalign.rollout.study import clip_sets


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ({"horizon": 30, "swr": {"window": 31}}, "swr", "above the horizon of 30"),
        ({"horizon": 30, "kv_window": {"frames": 31}}, "kv_window", "above the horizon of 30"),
        ({"horizon": 30, "sweep": [4, 40]}, "sweep", "window 40 is above"),
        ({"horizon": 30, "measured_every": 31}, "measured_every", "above the horizon"),
        ({"horizon": 30, "drift": {"starts": [26], "steps": 6}}, "drift", "ends beyond the horizon"),
        ({"horizon": 30, "drift": {"ages": [1, 31]}}, "drift", "age 31 is above"),
        ({"horizon": 30, "decodings": ["swr"]}, "decodings", "`ar`"),
        ({"swr_entropy": {"shortest": 5, "longest": 4}}, "swr_entropy", "below shortest"),
        ({"horizon": 30, "sweep": [4, 4]}, "sweep", "listed twice"),
    ],
)
def test_what_does_not_fit_the_horizon_is_refused_at_its_field(
    fields: dict[str, object], place: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        RolloutSpec.model_validate(fields)
    [error] = caught.value.errors()
    assert error["loc"][0] == place
    assert message in error["msg"]


def test_every_other_decoding_is_compared_with_plain_autoregression_made_before_it() -> None:
    sets = clip_sets(RolloutSpec())
    names = [one.name for one in sets]
    assert len(names) == len(set(names))
    for one in sets:
        assert names.index(one.base) <= names.index(one.name)
    assert {"supervised.swr.greedy", "aligned.swr.sampled", "supervised.kv_window.sampled"} <= set(names)
    assert "supervised.carry_tokens.sampled" not in names


def test_the_window_is_one_value_for_all_segmented_decodings() -> None:
    spec = RolloutSpec.model_validate({"swr": {"window": 9}})
    names: tuple[DecodingName, ...] = ("swr", "swr_anchored", "swr_two_contexts", "carry_tokens", "true_refresh")
    assert {spec.decoding(name).model_dump()["window"] for name in names} == {9}
