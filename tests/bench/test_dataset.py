import numpy as np
import pytest
import torch

from roboalign.bench.dataset import ObservedSets, SetPlan, observe_pairs, score_pairs
from roboalign.bench.pairs import Bench
from roboalign.reward.dimensions import normalise
from roboalign.reward.observation import observation_of
from tests.reward.reward_fakes import toy_bench, toy_judge


@pytest.fixture(scope="module")
def bench(toy_episodes, six, tmp_path_factory) -> Bench:
    return toy_bench(toy_episodes, six, tmp_path_factory.mktemp("bench"), pairs=30)


@pytest.fixture(scope="module")
def judge(toy_episodes, six):
    return toy_judge(toy_episodes[:12], six).eval()


def test_scores_come_back_in_the_order_of_the_pairs(bench, judge):
    rows = bench.filter(split="train")[::-1]
    scores = score_pairs(judge.sample, bench, rows)
    assert scores.shape == (2, len(rows), 2, 6)
    for place in (0, 5, len(rows) - 1):
        frames, actions = bench.clip(rows[place])
        video = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())[None]
        own = judge.sample(video, [bench.pairs[rows[place]].instruction], torch.from_numpy(actions)[None])
        assert scores[:, place] == pytest.approx(own[:, 0].numpy(), abs=1e-4)


def test_sets_of_clips_of_any_length_score_as_the_clips_alone(bench, judge, six):
    rows = bench.filter(split="train")
    texts = [bench.pairs[row].instruction for row in rows]
    plan = SetPlan.of(bench, rows, 3, 0.5)
    observations, words = observe_pairs(judge, bench, rows), judge.vocabulary.encode(texts)
    data = ObservedSets(observations, words, normalise(bench.labels[rows], six), plan, 7)
    scores = torch.from_numpy(normalise(score_pairs(judge.sample, bench, rows), six)).float()
    for number in range(6):
        item, (places, grouped) = data[number], plan.draw(number, 7)
        assert bool(item["grouped"]) == grouped
        batch = {name: value.unsqueeze(0) for name, value in item.items()}
        with torch.no_grad():
            own = judge.predict(observation_of(batch), item["words"], 1).clamp(0, 1)
        assert torch.allclose(own, scores[1, places], atol=1e-4)
        assert torch.equal(item["target"], torch.from_numpy(normalise(bench.labels[rows], six))[places].float())
    with pytest.raises(ValueError, match="targets"):
        ObservedSets(observations, words, data.targets.numpy()[1:], plan, 0)


def test_a_plan_keeps_groups_together_and_draws_the_rest(bench):
    rows = bench.filter(split="train")
    plan = SetPlan.of(bench, rows, 3, 0.5)
    assert len(plan.groups) == 4
    assert len(plan.singles) == len(rows) - 12
    drawn = [plan.draw(number, 0) for number in range(200)]
    assert 0.3 < np.mean([grouped for _, grouped in drawn]) < 0.7
    for places, grouped in drawn:
        names = {bench.pairs[rows[place]].group for place in places}
        assert len(places) == 3
        assert (len(names) == 1 and names != {""}) == grouped
        assert not grouped or len(set(places)) == 3
    assert drawn[:9] == [plan.draw(number, 0) for number in range(9)]
    assert drawn[:9] != [plan.draw(number, 1) for number in range(9)]


def test_groups_that_are_too_small_count_as_single_clips(bench):
    rows = bench.filter(split="train")
    plan = SetPlan.of(bench, rows, 4, 0.5)
    assert (plan.groups, plan.group_share) == ((), 0.0)
    assert sorted(plan.singles) == list(range(len(rows)))
    only = SetPlan.of(bench, [row for row in rows if bench.pairs[row].group], 3, 0.5)
    assert (only.singles, only.group_share) == ((), 1.0)
