"""No scene, episode, partner of a splice or of swapped actions, or generated clip crosses the splits."""

from dataclasses import replace
from pathlib import Path

import pytest

from roboalign.bench.build import build
from roboalign.bench.calibration import sections
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import Bench
from roboalign.store import Corpus, EpisodeStore
from tests.conftest import toy_episode

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def many(six, small):
    """Thirty-six episodes of two sources; two episodes share each scene."""
    episodes = []
    for number in range(36):
        split = SPLITS[0] if number % 18 < 8 else SPLITS[1] if number % 18 < 12 else SPLITS[2]
        episode = toy_episode(number, split=split)
        source = f"toy{number // 18}"
        scene = f"{source}/{number // 2}"
        episodes.append(replace(episode, source=source, id=f"{source}/{number:06d}", scene=scene))
    corpus = Corpus.of(episodes)
    spec = small.model_copy(update={"pairs": 400})
    return PairLabeller.of(corpus, spec, six)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("leaks")


@pytest.fixture(scope="module")
def bench(many, models, folder) -> Bench:
    return Bench(
        build({"judge": many}, models, folder / "generated", 10.0)["judge"],
        many.corpus,
        EpisodeStore(folder / "generated"),
    )


def test_scenes_and_episodes_stay_in_their_split(bench, many):
    infos = {info.id: info for info in many.infos}
    used = {split: set() for split in SPLITS}
    for pair in bench.pairs:
        for name in filter(None, (pair.episode, pair.other)):
            assert infos[name].split == pair.split
            used[pair.split] |= {name, infos[name].scene}
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert used[one]
        assert not used[one] & used[other]


def test_partners_come_from_other_scenes_of_the_same_source(bench, many):
    infos = {info.id: info for info in many.infos}
    partners = [pair for pair in bench.pairs if pair.other]
    assert {pair.degradation for pair in partners} == {"splice", "swapped_actions"}
    for pair in partners:
        assert infos[pair.other].scene != infos[pair.episode].scene
        assert infos[pair.other].source == pair.source


def test_generated_clips_carry_the_split_and_scene_of_their_episode(bench, many, folder):
    infos, store = {info.id: info for info in many.infos}, EpisodeStore(folder / "generated")
    generated = [pair for pair in bench.pairs if pair.origin == "generated"]
    assert generated
    for pair in generated:
        made = store.infos[pair.generated]
        assert (made.split, made.scene) == (pair.split, infos[pair.episode].scene)


def test_no_clip_is_in_two_splits(bench):
    splits = {}
    for pair in bench.pairs:
        assert splits.setdefault(pair.id, pair.split) == pair.split


def test_held_out_kinds_are_tested_and_never_trained_on(bench, many):
    kinds = {split: {pair.degradation for pair in bench.pairs if pair.split == split} for split in SPLITS}
    held_out = set(many.spec.held_out)
    assert held_out <= kinds["test"]
    assert not held_out & (kinds["train"] | kinds["validation"])


def test_hidden_labels_are_not_given_to_judges(bench):
    judged, everything = ({n for s in SPLITS for n in bench.filter(split=s, hidden=hidden)} for hidden in (False, True))
    assert everything == set(range(len(bench)))
    assert {bench.pairs[row].degradation for row in everything - judged} == {"swapped_actions"}
    assert not any(bench.pairs[row].degradation == "swapped_actions" for row in judged)


def test_by_spec_hidden_labels_are_treated_as_the_others(many):
    spec = many.spec.model_copy(update={"hidden_labels": "train"})
    pairs = build({"judge": replace(many, spec=spec)}, {}, Path("unused"), 10.0)["judge"]
    assert all(pair.judged for pair in pairs)


def test_limits_and_cameras_never_see_evaluation_episodes(many, six):
    train = many.corpus.filter(split="train")
    alone = PairLabeller.of(train, many.spec, six)
    assert alone.limits == many.limits
    assert alone.cameras.keys() == many.cameras.keys()


def test_a_held_out_source_is_tested_alone(many):
    spec = many.spec.model_copy(update={"held_out_sources": ("toy1",)})
    pairs = build({"judge": replace(many, spec=spec)}, {}, Path("unused"), 10.0)["judge"]
    assert {pair.split for pair in pairs if pair.source == "toy1"} == {"test"}
    assert {pair.source for pair in pairs if pair.split == "train"} == {"toy0"}
    bench = Bench(pairs, many.corpus)
    rows = bench.filter(split="test")
    kept = sections(bench, rows, ("splice", "noise"))
    assert {bench.pairs[row].source for row, keep in zip(rows, kept["held_out_sources"], strict=True) if keep} == {
        "toy1"
    }
    assert sum(mask.sum() for mask in kept.values()) == len(rows)
