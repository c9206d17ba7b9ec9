import pytest
from pydantic import ValidationError
from rl_fakes import module, spec, training

from roboalign.rl.prompts import Prompts
from roboalign.store import Corpus
from roboalign.types import Episode

OFF = {"distillation": None}
GOLD_AND_L1 = {
    "kind": "sum",
    "terms": [{"weight": 1.0, "signal": {"kind": "gold"}}, {"weight": 20.0, "signal": {"kind": "l1"}}],
}


def test_distillation_needs_a_reward_by_the_student() -> None:
    with pytest.raises(ValidationError, match="does not use the student"):
        spec(reward={"kind": "mse"})
    assert spec(reward={"kind": "mse"}, distillation=None).distillation is None
    terms = [{"weight": 1.0, "signal": {"kind": "distilled"}}, {"weight": 2.0, "signal": {"kind": "l1"}}]
    assert spec(reward={"kind": "sum", "terms": terms}).distillation is not None


@pytest.mark.parametrize("kind", ["grpo", "best_of_n"])
def test_optimisers_that_compare_rollouts_need_two(kind: str) -> None:
    with pytest.raises(ValidationError, match="compares rollouts of one prompt"):
        spec(optimizer={"kind": kind}, group_size=1)
    assert spec(optimizer={"kind": "first_order"}, group_size=1).group_size == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"kind": "best_of_n", "keep": 4}}, r"must be below group_size \(4\)"),
        ({"optimizer": {"kind": "first_order"}, "reward": {"kind": "gold"}, **OFF}, "gold has no gradient"),
        ({"optimizer": {"kind": "first_order"}, "reward": GOLD_AND_L1, **OFF}, "gold has no gradient"),
        ({"optimizer": {"kind": "grpo", "reward_to_go": True}}, "is not defined by frame"),
        ({"measure": {"gradient_batches": 1}}, "cannot be compared with another"),
        ({"optimizer": {"kind": "ppo"}}, "best_of_n"),
    ],
)
def test_specs_that_contradict_themselves_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(**changes)


def test_each_shipped_optimiser_is_a_kind() -> None:
    for kind in ("grpo", "first_order", "best_of_n"):
        assert spec(optimizer={"kind": kind}).optimizer.kind == kind
    assert spec(optimizer={"kind": "grpo", "reward_to_go": True}, reward={"kind": "mse"}, **OFF).group_size == 4
    assert spec(training=training(3)).training.steps == 3


def test_prompts_are_segments_with_the_actions_that_lead_on(toy_episodes: list[Episode]) -> None:
    _, prompts = module(spec(), toy_episodes)
    assert len(prompts) == 12 * 3  # twelve episodes of 12 frames: contexts at 0, 4 and 8
    item = prompts[1]
    episode = toy_episodes[0]
    assert item["frames"].shape == (4, 3, 32, 32)
    assert (item["frames"][0].permute(1, 2, 0) * 255).round().byte().numpy().tolist() == episode.frames[4].tolist()
    assert item["actions"].tolist() == Corpus.of(toy_episodes[:12]).actions(0)[4:7].tolist()
    assert prompts.instruction(1) == episode.instruction
    assert prompts.task(1) == ("toy", "push")


def test_prompts_of_some_policies(toy_episodes: list[Episode]) -> None:
    corpus = Corpus.of(toy_episodes)
    assert len(Prompts(corpus, 3, 4, ["expert"])) == 6 * 3
    with pytest.raises(ValueError, match=r"rl\.horizon"):
        Prompts(corpus, 12, 4)
