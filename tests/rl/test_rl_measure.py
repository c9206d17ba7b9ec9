from collections.abc import Sequence

import numpy as np
import pytest
import torch
from rl_fakes import ToyPolicy, ToyTokenizer, draw_from, teacher
from torch import Tensor

from roboalign.rl.interfaces import PromptReward
from roboalign.rl.measure import by_episode, compared, rolled_out
from roboalign.rl.prompts import Prompts
from roboalign.store import Corpus
from roboalign.types import Episode


def reward(videos: Tensor, words: list[str], targets: Tensor) -> Tensor:
    return teacher(videos, words).sum(1)


def roll(
    model: ToyPolicy, reference: ToyPolicy, episodes: list[Episode], batch: int, gold: PromptReward | None = None
) -> dict[str, np.ndarray]:
    prompts = Prompts(Corpus.of([episode for episode in episodes if episode.split == "test"]), 3, 4)
    values = rolled_out(
        model, draw_from(model), reference, ToyTokenizer(), prompts, prompts.evenly(6), {"teacher": reward},
        temperature=1.0, seed=1, batch=batch, device=torch.device("cpu"), gold=gold,
    )  # fmt: skip
    return dict(values)


def policies() -> tuple[ToyPolicy, ToyPolicy]:
    torch.manual_seed(0)
    before, after = ToyPolicy(4), ToyPolicy(4)
    after.load_state_dict(before.state_dict())
    after.head.bias.data += torch.tensor([0.0, 0.0, 0.0, 0.0, 3.0]).repeat(2)  # brighter
    return before, after


def test_a_brighter_policy_scores_higher_and_lies_off_the_reference(toy_episodes: list[Episode]) -> None:
    before, after = policies()
    old, new = (roll(model, before, toy_episodes, 4) for model in (before, after))
    figures = compared(old, new, ["teacher"], ["a", "a", "b", "b", "c", "c"])
    gain = figures["reward"]["teacher"]
    assert gain["after"] - gain["before"] == pytest.approx(gain["mean"])
    assert gain["low"] > 0
    assert gain["n"] == 3
    assert figures["kl"] > 0.1
    assert old["kl"] == pytest.approx(np.zeros(6), abs=1e-6)
    assert figures["motion_ratio"] == pytest.approx(new["motion"].sum() / old["motion"].sum())


def test_the_batch_changes_no_figure(toy_episodes: list[Episode]) -> None:
    before, after = policies()
    one, two = (roll(after, before, toy_episodes, batch) for batch in (2, 6))
    for name, values in one.items():
        assert values == pytest.approx(two[name], abs=1e-6), name


def test_an_unchanged_policy_gains_nothing(toy_episodes: list[Episode]) -> None:
    before, _ = policies()
    values = roll(before, before, toy_episodes, 4)
    figures = compared(values, values, ["teacher"], list("abcdef"))
    assert figures["reward"]["teacher"]["mean"] == 0
    assert figures["motion_ratio"] == 1
    assert figures["kl"] == pytest.approx(0, abs=1e-6)


def test_gold_is_compared_on_the_prompts_that_it_knows(toy_episodes: list[Episode]) -> None:
    before, after = policies()

    def gold(numbers: Sequence[int], videos: Tensor, futures: Tensor) -> Tensor:
        values = -(videos - futures).abs().mean((1, 2, 3, 4))
        return torch.where(torch.tensor(numbers) % 2 == 0, values, torch.nan)

    old, new = (roll(model, before, toy_episodes, 4, gold) for model in (before, after))
    known = np.isfinite(old["gold"])
    assert 0 < known.sum() < 6
    found = compared(old, new, ["teacher", "gold"], list("abcdef"))["reward"]
    assert found["gold"]["n"] == known.sum()
    assert found["gold"]["before"] == pytest.approx(old["gold"][known].mean())
    assert found["teacher"]["n"] == 6
    nothing = {name: np.full(6, np.nan) if name == "gold" else value for name, value in old.items()}
    assert set(compared(nothing, nothing, ["teacher", "gold"], list("abcdef"))["reward"]) == {"teacher"}


def test_prompts_of_one_episode_count_once() -> None:
    assert by_episode({"x": np.array([1.0, 3.0, 7.0])}, ["a", "a", "b"])["x"].tolist() == [2, 7]
