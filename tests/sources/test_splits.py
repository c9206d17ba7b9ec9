from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from roboalign.sources.shared_spec import SplitSpec
from roboalign.sources.splits import split_groups

SPEC = SplitSpec()


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), st.integers(0, 100))
def test_a_group_is_in_one_split_whatever_the_order(groups: list[str], seed: int) -> None:
    splits = split_groups(groups, SPEC, seed)
    given_to = dict(zip(groups, splits, strict=True))
    assert [given_to[group] for group in groups] == splits
    assert dict(zip(groups[::-1], split_groups(groups[::-1], SPEC, seed), strict=True)) == given_to
    assert "train" in splits


def test_the_shares_hold_as_far_as_whole_groups_allow() -> None:
    splits = Counter(split_groups([str(n) for n in range(100)], SPEC, 3))
    assert splits == {"train": 80, "validation": 5, "test": 15}


def test_the_seed_chooses_the_groups() -> None:
    names = [str(n) for n in range(40)]
    assert split_groups(names, SPEC, 0) != split_groups(names, SPEC, 1)


def test_a_split_without_a_share_stays_empty() -> None:
    spec = SplitSpec(train=1.0, validation=0.0, test=0.0)
    assert set(split_groups([str(n) for n in range(9)], spec, 0)) == {"train"}
