import pytest
from pydantic import ValidationError
from rl_fakes import module, spec

from roboalign.rl.prompts import Prompts
from roboalign.store import Corpus
from roboalign.types import Episode


def test_distillation_needs_the_distilled_reward() -> None:
    with pytest.raises(ValidationError, match="does not use the student"):
        spec(reward={"kind": "mse"})
    assert spec(reward={"kind": "mse"}, distillation=None).distillation is None


def test_a_round_cannot_score_more_rollouts_than_an_update_makes() -> None:
    with pytest.raises(ValidationError, match="fewer than the 4 rollouts"):
        spec(group=2, training=spec().training.model_copy(update={"batch": 1}))


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(ValidationError):
        spec(group=1)


def test_prompts_are_segments_with_the_actions_that_lead_on(toy_episodes: list[Episode]) -> None:
    _, prompts = module(spec(), toy_episodes)
    assert len(prompts) == 12 * 3  # twelve episodes of 12 frames: contexts at 0, 4 and 8
    item = prompts[1]
    episode = toy_episodes[0]
    assert item["frames"].shape == (4, 3, 32, 32)
    assert (item["frames"][0].permute(1, 2, 0) * 255).round().byte().numpy().tolist() == episode.frames[4].tolist()
    assert item["actions"].tolist() == Corpus.of(toy_episodes[:12]).actions(0)[4:7].tolist()
    assert prompts.instruction(1) == episode.instruction


def test_prompts_of_some_policies(toy_episodes: list[Episode]) -> None:
    corpus = Corpus.of(toy_episodes)
    assert len(Prompts(corpus, 3, 4, ["expert"])) == 6 * 3
    with pytest.raises(ValueError, match=r"rl\.horizon"):
        Prompts(corpus, 12, 4)
