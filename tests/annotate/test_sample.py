from collections import Counter
from dataclasses import replace

import pytest
from annotate_fakes import fake_pairs

from roboalign.annotate.sample import SampleError, choose_clips, order_for_rater


def test_clips_are_even_over_origins_and_sources_of_the_split():
    pairs = [*fake_pairs(300, "train"), *fake_pairs(300, "test")]
    rows = choose_clips(pairs, "test", 62, seed=3)
    assert len(set(rows)) == 62
    assert {pairs[row].split for row in rows} == {"test"}
    counts = Counter((pairs[row].origin, pairs[row].source) for row in rows)
    assert len(counts) == 6
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_small_cell_leaves_its_place_to_the_others():
    pairs = [pair for pair in fake_pairs(60) if pair.origin != "real"] + fake_pairs(1)
    rows = choose_clips(pairs, "test", 31, seed=0)
    assert len(set(rows)) == 31
    assert len(choose_clips(pairs, "test", 10_000, seed=0)) == len(pairs)


def test_clips_whose_label_nobody_can_see_are_not_shown():
    pairs = fake_pairs(30)
    hidden = [replace(pair, judged=number % 2 == 0) for number, pair in enumerate(pairs)]
    assert sorted(choose_clips(hidden, "test", 30, seed=0)) == list(range(0, 30, 2))


def test_the_seed_decides_and_an_empty_split_is_an_error():
    pairs = fake_pairs(200)
    assert choose_clips(pairs, "test", 20, 1) == choose_clips(pairs, "test", 20, 1)
    assert choose_clips(pairs, "test", 20, 1) != choose_clips(pairs, "test", 20, 2)
    with pytest.raises(SampleError, match="validation"):
        choose_clips(pairs, "validation", 20, 1)


def test_raters_see_the_same_clips_in_another_order_and_some_twice():
    rows = list(range(30))
    anna, ben = order_for_rater(rows, "anna", 0), order_for_rater(rows, "ben", 0)
    assert anna != ben
    assert anna == order_for_rater(rows, "anna", 0)
    for showings in (anna, ben):
        assert sorted(one.row for one in showings if one.showing == 1) == rows
        again = [one.row for one in showings if one.showing == 2]
        assert len(again) == len(set(again)) == 3
        places = {(one.row, one.showing): place for place, one in enumerate(showings)}
        assert all(places[row, 2] - places[row, 1] >= 17 for row in again)


def test_two_clips_are_too_few_to_repeat_one():
    assert [one.showing for one in order_for_rater([4, 7], "", 0)] == [1, 1]
