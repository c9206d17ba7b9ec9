"""Which pairs a study has: all pairs of models evenly, sides at random, checks besides."""

from collections import Counter
from pathlib import Path

import pytest

from roboalign.evaluation.clips import ClipSet
from roboalign.preference.sample import SHUFFLED, TRUTH, PairsError, choose_pairs, read_key

SOURCES = {f"{source}/{n}": source for source in ("arm", "crane") for n in range(20)}


def clip_sets(*names: str, episodes: int = 40) -> dict[str, ClipSet]:
    listed = tuple(list(SOURCES)[:episodes])
    return {name: ClipSet(name, "", "", "", Path(), listed, (0,) * len(listed)) for name in names}


def test_pairs_are_spread_over_models_and_sources_and_sides_are_random() -> None:
    key = choose_pairs(clip_sets("x", "y", "z"), SOURCES, ["x", "y", "z"], 60, 4, seed=0)
    compared = [pair for pair in key.pairs if not pair.is_check]
    assert Counter(frozenset((pair.a, pair.b)) for pair in compared) == {
        frozenset("xy"): 20, frozenset("xz"): 20, frozenset("yz"): 20,
    }  # fmt: skip
    assert set(Counter(SOURCES[pair.episode] for pair in compared).values()) == {30}
    assert 15 < sum(pair.a < pair.b for pair in compared) < 45
    assert [{pair.a, pair.b} for pair in key.pairs if pair.is_check] == [{TRUTH, SHUFFLED}] * 4
    assert key == choose_pairs(clip_sets("x", "y", "z"), SOURCES, ["x", "y", "z"], 60, 4, seed=0)
    assert key.study != choose_pairs(clip_sets("x", "y", "z"), SOURCES, ["x", "y", "z"], 60, 4, seed=1).study


def test_a_study_has_no_more_pairs_than_there_are_clips() -> None:
    key = choose_pairs(clip_sets("x", "y", episodes=3), SOURCES, ["x", "y"], 60, 9, seed=0)
    assert len([pair for pair in key.pairs if not pair.is_check]) == 3
    assert len(key.pairs) == 6


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["x", "w"], "there are no rollouts of w; choose from x, y"),
        (["x"], "at least two different models"),
        (["x", "x"], "at least two different models"),
    ],
)
def test_models_that_cannot_be_compared_are_refused(models: list[str], message: str) -> None:
    with pytest.raises(PairsError, match=message):
        choose_pairs(clip_sets("x", "y"), SOURCES, models, 9, 1, seed=0)


def test_models_without_a_common_episode_are_refused() -> None:
    sets = clip_sets("x", episodes=3) | {"y": ClipSet("y", "", "", "", Path(), ("other/0",), (0,))}
    with pytest.raises(PairsError, match="x, y have no episode in common"):
        choose_pairs(sets, SOURCES, ["x", "y"], 9, 1, seed=0)


def test_a_key_survives_its_file_and_other_files_are_refused() -> None:
    key = choose_pairs(clip_sets("x", "y"), SOURCES, ["x", "y"], 5, 1, seed=0)
    assert read_key(key.model_dump_json(), "key.json") == key
    for text in ("{}", "[1]", "not json", key.model_dump_json().replace('"models":["x","y"]', '"models":["x"]')):
        with pytest.raises(PairsError, match=r"^key\.json: .*give the key file that `pairs build` wrote"):
            read_key(text, "key.json")
