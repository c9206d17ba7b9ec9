from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from rl_fakes import ToyPolicy, ToyTokenizer, brightness, make_rollout, window_segments
from torch import Tensor

from roboalign.reward.rewards import Rollouts
from roboalign.rl.measure import by_episode, compare_policies, roll_out, success_rates
from roboalign.rl.prompts import Prompts
from roboalign.store import Corpus
from roboalign.types import Episode


def bright(rollouts: Rollouts) -> dict[str, Tensor]:
    return {"judge": brightness(rollouts)}


def roll(
    model: ToyPolicy,
    reference: ToyPolicy,
    episodes: list[Episode],
    batch: int,
    score: Callable[[Rollouts], Mapping[str, Tensor]] = bright,
    window: int | None = None,
) -> dict[str, np.ndarray]:
    prompts = Prompts(Corpus.of([episode for episode in episodes if episode.split == "test"]), 3, 4)
    values = roll_out(
        model, reference, make_rollout(model, window), ToyTokenizer(), prompts, prompts.evenly(6), score,
        temperature=1.0, segments=window_segments(prompts.horizon, window), seed=1, batch_size=batch,
        device=torch.device("cpu"),
    )  # fmt: skip
    return dict(values)


def policies() -> tuple[ToyPolicy, ToyPolicy]:
    torch.manual_seed(0)
    before, after = ToyPolicy(), ToyPolicy()
    after.load_state_dict(before.state_dict())
    after.head.bias.data += torch.tensor([0.0, 0.0, 0.0, 0.0, 3.0]).repeat(2)  # brighter
    return before, after


def test_a_brighter_policy_scores_higher_and_lies_off_the_reference(toy_episodes: list[Episode]) -> None:
    before, after = policies()
    old, new = (roll(model, before, toy_episodes, 4) for model in (before, after))
    figures = compare_policies(old, new, ["judge"], ["a", "a", "b", "b", "c", "c"])
    gain = figures["reward"]["judge"]
    assert gain["after"] - gain["before"] == pytest.approx(gain["mean"])
    assert gain["low"] > 0
    assert gain["n"] == 3
    assert figures["kl"] > 0.1
    assert old["kl"] == pytest.approx(np.zeros(6), abs=1e-6)
    assert figures["motion_ratio"] == pytest.approx(new["motion"].sum() / old["motion"].sum())
    assert figures["indicators"]["psnr"]["before"] == pytest.approx(old["psnr"].mean())


@pytest.mark.parametrize("window", [None, 2])
def test_the_batch_changes_no_figure(window: int | None, toy_episodes: list[Episode]) -> None:
    before, after = policies()
    one, two = (roll(after, before, toy_episodes, batch, window=window) for batch in (2, 6))
    for name, values in one.items():
        assert values == pytest.approx(two[name], abs=1e-6), name


def test_an_unchanged_policy_gains_nothing(toy_episodes: list[Episode]) -> None:
    before, _ = policies()
    values = roll(before, before, toy_episodes, 4)
    figures = compare_policies(values, values, ["judge"], list("abcdef"))
    assert figures["reward"]["judge"]["mean"] == 0
    assert figures["motion_ratio"] == 1
    assert figures["kl"] == pytest.approx(0, abs=1e-6)


def test_a_scorer_is_compared_on_the_prompts_that_it_knows(toy_episodes: list[Episode]) -> None:
    before, after = policies()

    def score(rollouts: Rollouts) -> dict[str, Tensor]:
        known = torch.tensor([text.startswith("push") for text in rollouts.instructions])
        return bright(rollouts) | {"gold": torch.where(known, brightness(rollouts), torch.nan)}

    old, new = (roll(model, before, toy_episodes, 4, score) for model in (before, after))
    known = np.isfinite(old["gold"])
    assert 0 < known.sum() < 6
    found = compare_policies(old, new, ["judge", "gold"], list("abcdef"))["reward"]
    assert found["gold"]["n"] == known.sum()
    assert found["gold"]["before"] == pytest.approx(old["gold"][known].mean())
    assert found["judge"]["n"] == 6
    nothing = {name: np.full(6, np.nan) if name == "gold" else value for name, value in old.items()}
    assert set(compare_policies(nothing, nothing, ["judge", "gold", "held_out"], list("abcdef"))["reward"]) == {"judge"}


def test_prompts_of_one_episode_count_once() -> None:
    assert by_episode({"x": np.array([1.0, 3.0, 7.0])}, ["a", "a", "b"])["x"].tolist() == [2, 7]


def test_success_rates_are_of_failures_and_of_successes() -> None:
    nan = np.nan
    values = {
        "shown_success": np.array([0.9, 0.1, 0.2, 0.7, nan]),
        "true_success": np.array([0.2, 0.3, 0.8, 0.9, nan]),
    }
    assert success_rates(values) == {
        "true_successes": 2, "true_failures": 2, "false_success": 0.5, "missed_success": 0.5,
    }  # fmt: skip
    failures = {name: array[:2] for name, array in values.items()}
    assert success_rates(failures) == {"true_successes": 0, "true_failures": 2, "false_success": 0.5}
