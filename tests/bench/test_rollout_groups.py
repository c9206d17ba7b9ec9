"""Groups of rollouts of one prompt: their recipes, and their labels by several probes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from roboalign.bench.build import build
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import LABEL_FILES, Bench, write_pairs
from roboalign.bench.spec import GroupsSpec
from roboalign.store import EpisodeStore
from tests.reward.reward_fakes import fading

GROUPS = (
    GroupsSpec(split="train", prompts=5, size=4, greedy=1, frames=4),
    GroupsSpec(split="test", prompts=2, size=3, frames=6, models=("early", "final")),
)
MODELS = {f"{model}.ar.{sampling}": fading for model in ("early", "final") for sampling in ("sampled", "greedy")}


@pytest.fixture(scope="module")
def grouped(labeller) -> PairLabeller:
    return replace(labeller, spec=labeller.spec.model_copy(update={"pairs": 20, "groups": GROUPS}))


class BrightProbe:
    """Derives all states from the brightness of a frame, scaled by `factor`."""

    def __init__(self, states, factor=1.0):
        self.mean = np.mean([state.mean(0) for state in states.values()], 0)
        self.factor = factor

    def __call__(self, source, task, frames):
        share = frames.astype(np.float32).mean((2, 3, 4)) / 255
        return np.asarray(self.mean + self.factor * (share[..., None] - 0.1), np.float32)


@pytest.fixture(scope="module")
def folder(grouped, six, tmp_path_factory):
    """A bench whose groups two probes labelled."""
    trusting = grouped.spec.model_copy(
        update={"generated": grouped.spec.generated.model_copy(update={"min_explained_variance": 0.0})}
    )
    judge, held_out = (
        replace(grouped, spec=trusting, probe=BrightProbe(grouped.states, factor)) for factor in (1.0, 3.0)
    )
    # Both label the clips, whatever variance they explain.
    judge, held_out = (
        replace(
            each,
            measured_calibrations={
                s: replace(own, explained_variance=1.0) for s, own in each.probe_calibrations.items()
            },
        )
        for each in (judge, held_out)
    )
    path = tmp_path_factory.mktemp("groups")
    made = build({"judge": judge, "held_out": held_out}, MODELS, path / "generated", 10.0)
    for name, pairs in made.items():
        write_pairs(path / LABEL_FILES[name], pairs, six.names)
    return path


@pytest.fixture(scope="module")
def bench(folder, corpus, six) -> Bench:
    return Bench.open(folder, corpus, six.names)


def test_groups_are_as_many_and_as_large_as_the_spec_says(bench):
    train, test = bench.groups(split="train"), bench.groups(split="test")
    assert [len(group) for group in train] == [4] * 5
    assert [len(group) for group in test] == [3] * 2
    assert bench.groups(split="validation") == []
    assert bench.groups(split="test", frames=4) == []
    assert bench.groups(split="test", frames=6) == test


def test_the_rollouts_of_a_group_share_their_prompt_and_differ(bench):
    for group in bench.groups(split="train") + bench.groups(split="test"):
        pairs = [bench.pairs[number] for number in group]
        assert len({(p.group, p.episode, p.start, p.stop, p.instruction, p.split) for p in pairs}) == 1
        assert {p.origin for p in pairs} == {"group"}
        assert len({p.seed for p in pairs}) == len(pairs)
        clips = [bench.frames(number) for number in group]
        assert all(np.array_equal(clip[0], clips[0][0]) for clip in clips)
        assert all(np.array_equal(bench.actions(number), bench.actions(group[0])) for number in group)


def test_models_take_turns_and_the_first_rollouts_are_greedy(bench):
    train = [[bench.pairs[n].model for n in group] for group in bench.groups(split="train")]
    assert train == [["final.ar.greedy", *["final.ar.sampled"] * 3]] * 5
    test = [[bench.pairs[n].model for n in group] for group in bench.groups(split="test")]
    assert test == [["early.ar.sampled", "final.ar.sampled", "early.ar.sampled"]] * 2


def test_the_other_pairs_are_those_of_a_bench_without_groups(bench, grouped, tmp_path):
    alone = replace(grouped, spec=grouped.spec.model_copy(update={"groups": ()}))
    pairs = build({"judge": alone}, MODELS, tmp_path / "generated", 10.0)["judge"]
    assert Counter(pair.origin for pair in pairs)["group"] == 0
    assert [pair.id for pair in pairs] == [pair.id for pair in bench.pairs if pair.origin != "group"]


def test_each_probe_labels_the_same_rollouts_in_its_own_file(bench, folder, corpus, six):
    other = Bench.open(folder, corpus, six.names, "held_out")
    for ours, theirs in zip(bench.pairs, other.pairs, strict=True):
        assert replace(ours, scores=(), faithful=(), provenance="rubric") == replace(
            theirs, scores=(), faithful=(), provenance="rubric"
        )
        if not ours.model:
            assert ours == theirs
    group = [n for found in bench.groups(split="train") for n in found]
    assert {bench.pairs[n].provenance for n in group} == {"rubric_probed_group"}
    assert not np.array_equal(bench.labels[group], other.labels[group])
    assert bench.labels[group].std(0).max() > 0


def test_without_a_probe_distances_label_the_groups(grouped, tmp_path):
    pairs = build({"judge": grouped}, MODELS, tmp_path / "generated", 10.0)["judge"]
    assert {pair.provenance for pair in pairs if pair.origin == "group"} == {"distance_rule"}
    for pair in pairs:
        assert len(pair.faithful) == len(pair.scores) == 6


def test_clips_come_with_one_action_for_each_frame_after_the_first(bench, corpus):
    index = {info.id: number for number, info in enumerate(corpus.infos)}
    for number, pair in enumerate(bench.pairs):
        frames, actions = bench.clip(number)
        assert actions.shape == (len(frames) - 1, corpus.action_width)
        if pair.degradation == "":
            assert np.array_equal(actions, corpus.actions(index[pair.episode])[pair.start : pair.stop - 1])
        if pair.degradation == "swapped_actions":
            assert np.array_equal(actions, corpus.actions(index[pair.other])[pair.start : pair.stop - 1])


def test_generated_clips_are_stored_in_their_order(bench, folder):
    store = EpisodeStore(folder / "generated")
    assert [pair.generated for pair in bench.pairs if pair.model] == list(range(len(store)))
