"""Alignment in the toy world: every optimiser raises the reward, can be killed, and is held back and guarded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from rl_fakes import brightness, make_rollout, module, spec, training
from torch import Tensor, nn
from torch.utils.data import default_collate

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv
from roboalign.reward.rewards import mse
from roboalign.rl.grpo import token_log_probabilities
from roboalign.rl.guard import Check
from roboalign.rl.lit import AlignmentModule
from roboalign.rl.spec import RLSpec
from roboalign.training import fit
from roboalign.types import Episode

pytestmark = pytest.mark.filterwarnings("ignore")

OPTIMIZERS: dict[str, dict[str, object]] = {
    "grpo": {"kind": "grpo"},
    "grpo_rank": {"kind": "grpo", "advantage": "rank", "epochs": 2},
    "grpo_centred": {"kind": "grpo", "advantage": "centred", "clip_eps_high": 0.28},
    "first_order": {"kind": "first_order"},
    "first_order, half of it greedy": {"kind": "first_order", "greedy_share": 0.5},
    "best_of_n": {"kind": "best_of_n", "keep": 1},
}
KINDS = ("grpo", "first_order", "best_of_n")
GUARD = {"every": 2, "prompts": 2, "patience": 3}


class KilledError(Exception):
    """Stands for kill -9: nothing is written on the way out."""


class KillAfter(Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if index + 1 == self.steps:
            raise KilledError


def train(
    rl: RLSpec,
    episodes: Sequence[Episode],
    folder: Path,
    *callbacks: Callback,
    micro_batches: int = 1,
    sampling_parts: int = 1,
    **parts: Any,
) -> AlignmentModule:
    torch.set_num_threads(1)
    trained, prompts = module(rl, episodes, **parts)
    trained.sampling_parts = sampling_parts
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    fit(
        trained,
        prompts,
        rl.training,
        DeviceSpec(threads=1),
        label="rl",
        scratch=folder / "scratch",
        curves=folder / "rl.tsv",
        callbacks=callbacks,
        micro_batches=micro_batches,
    )
    trained.finish()
    return trained


def measured(policy: nn.Module, step: int) -> Check:
    """The guard's check: how bright the policy's rollouts from a grey frame are; PSNR and gold are made up."""
    frames, actions = torch.full((8, 3, 8, 8), 0.5), torch.zeros(8, 3, 4)
    videos, _ = make_rollout(policy)(frames, actions, torch.ones(8, 4), torch.arange(8))
    level = float(videos.mean())
    return Check(step, level, level, 20.0, float("nan"), 0.0)


def weights(trained: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trained.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name].nan_to_num(), b[name].nan_to_num()) for name in a)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_reward_rises(name: str, tmp_path: Path, toy_episodes: list[Episode]) -> None:
    train(spec(steps=30, optimizer=OPTIMIZERS[name], distillation=None), toy_episodes, tmp_path)
    rows = read_tsv(tmp_path / "rl.tsv")
    first, last = (sum(float(row["reward"]) for row in part) / 5 for part in (rows[:5], rows[-5:]))
    assert last > first + 0.5


@pytest.mark.parametrize(
    ("kind", "columns"), [("grpo", {"clip_fraction", "advantage"}), ("first_order", set()), ("best_of_n", {"kept"})]
)
def test_the_curve_has_its_columns(kind: str, columns: set[str], tmp_path: Path, toy_episodes: list[Episode]) -> None:
    train(spec(steps=2, optimizer={"kind": kind}), toy_episodes, tmp_path)
    common = {"step", "reward", "reward_sd", "constant_groups", "kl", "loss", "entropy", "score/bright", "score/dark"}
    distilled = {"distillation_loss", "disagreement"}
    assert set(read_tsv(tmp_path / "rl.tsv")[-1]) == common | distilled | columns


@pytest.mark.parametrize("kind", KINDS)
def test_kl_holds_the_policy_back(kind: str, tmp_path: Path, toy_episodes: list[Episode]) -> None:
    curves = {}
    for coef in (0.0, 10.0):
        rl = spec(steps=15, kl_coef=coef, optimizer={"kind": kind}, distillation=None)
        train(rl, toy_episodes, tmp_path / str(coef))
        curves[coef] = read_tsv(tmp_path / str(coef) / "rl.tsv")
    assert float(curves[10.0][-1]["kl"]) < 0.3 * float(curves[0.0][-1]["kl"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [None, 2])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    kind: str, window: int | None, tmp_path: Path, toy_episodes: list[Episode]
) -> None:
    decoding = {"kind": "ar"} if window is None else {"kind": "swr", "window": window}
    rl = spec(steps=7, optimizer={"kind": kind}, decoding=decoding, guard=GUARD)
    parts: dict[str, Any] = {"check": measured}
    if window is not None:
        parts |= {"micro_batches": 3, "sampling_parts": 2}
    whole = train(rl, toy_episodes, tmp_path / "whole", **parts)
    with pytest.raises(KilledError):
        train(rl, toy_episodes, tmp_path / "broken", KillAfter(5), **parts)
    resumed = train(rl, toy_episodes, tmp_path / "broken", **parts)
    assert equal(whole.state_dict(), resumed.state_dict())
    assert whole.check_history == resumed.check_history or str(whole.check_history) == str(resumed.check_history)
    assert (tmp_path / "whole/rl.tsv").read_bytes() == (tmp_path / "broken/rl.tsv").read_bytes()


def test_the_student_learns_only_if_it_is_distilled(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    online = train(spec(steps=4), toy_episodes, tmp_path / "online")
    offline = train(spec(steps=4, distillation=None), toy_episodes, tmp_path / "offline")
    fresh, _ = module(spec(), toy_episodes)
    assert not equal(weights(fresh.student), weights(online.student))
    assert equal(weights(fresh.student), weights(offline.student))
    assert online.buffer is not None
    assert len(online.buffer) == 12, "two rounds of eight rollouts in a buffer of twelve"
    assert "distillation_loss" not in read_tsv(tmp_path / "offline/rl.tsv")[0]


def test_distillation_brings_the_student_to_the_judge(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    distillation = {"every": 1, "steps": 6, "sets": 3, "capacity": 64, "bench_clips": 4, "learning_rate": 1e-2}
    train(spec(steps=8, distillation=distillation), toy_episodes, tmp_path)
    rows = read_tsv(tmp_path / "rl.tsv")
    assert float(rows[-1]["distillation_loss"]) < 0.5 * float(rows[0]["distillation_loss"])
    assert float(rows[-1]["disagreement"]) < float(rows[0]["disagreement"])


def test_a_student_that_agrees_with_the_judge_is_left_alone(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    distillation = {"every": 1, "steps": 2, "capacity": 8, "min_disagreement": 50}
    trained = train(spec(steps=2, distillation=distillation), toy_episodes, tmp_path)
    fresh, _ = module(spec(), toy_episodes)
    assert equal(weights(fresh.student), weights(trained.student))
    assert float(trained.disagreement) > 0
    assert trained.buffer is not None
    assert len(trained.buffer) == 8, "rollouts are kept all the same"


def test_a_checkpoint_holds_no_frozen_collaborator(toy_episodes: list[Episode]) -> None:
    trained, _ = module(spec(guard=GUARD), toy_episodes, check=measured)
    assert {name.split(".")[0] for name in trained.state_dict()} == {
        "policy", "student", "buffer", "best", "checks", "distillation_loss", "disagreement",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_reward_changes_nothing(kind: str, tmp_path: Path, toy_episodes: list[Episode]) -> None:
    rl = spec(steps=3, optimizer={"kind": kind}, distillation=None)
    fresh, _ = module(rl, toy_episodes)
    trained = train(rl, toy_episodes, tmp_path, reward=lambda rollouts: 0 * brightness(rollouts) + 1)
    assert equal(weights(fresh.policy), weights(trained.policy))
    assert [float(row["constant_groups"]) for row in read_tsv(tmp_path / "rl.tsv")] == [1, 1, 1]


def test_rewards_by_frame_credit_each_frame_with_what_follows(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    optimizer = {"kind": "grpo", "reward_to_go": True}
    rl = spec(steps=30, optimizer=optimizer, reward={"kind": "mse"}, distillation=None)
    train(rl, toy_episodes, tmp_path, reward=mse)
    rows = read_tsv(tmp_path / "rl.tsv")
    first, last = (sum(float(row["reward"]) for row in part) / 5 for part in (rows[:5], rows[-5:]))
    assert last > 0.7 * first, "the error falls by a third"


@pytest.mark.parametrize("kind", ["grpo", "first_order", "best_of_n"])
def test_the_losses_of_micro_batches_add_up(kind: str, toy_episodes: list[Episode]) -> None:
    aligned, prompts = module(spec(optimizer={"kind": kind}, kl_coef=0.1, distillation=None), toy_episodes)
    rollouts = aligned.sample(default_collate([prompts[0], prompts[5]]))
    credit = aligned.credit(rollouts)

    def gradient(*parts: slice) -> dict[str, Tensor]:
        losses = torch.stack([aligned.loss(rollouts, credit, rows)[0] for rows in parts])
        names, parameters = zip(*aligned.policy.named_parameters(), strict=True)
        return dict(zip(names, torch.autograd.grad(losses.sum(), parameters), strict=True))

    whole = gradient(slice(0, 8))
    for name, values in gradient(slice(0, 3), slice(3, 6), slice(6, 8)).items():
        torch.testing.assert_close(values, whole[name], atol=1e-6, rtol=1e-4)
    assert max(values.abs().max() for values in whole.values()) > 1e-3


@pytest.mark.parametrize(("name", "window"), [("grpo_rank", None), ("first_order", 2), ("best_of_n", None)])
def test_micro_batches_align_the_same(
    name: str, window: int | None, tmp_path: Path, toy_episodes: list[Episode]
) -> None:
    decoding = {"kind": "ar"} if window is None else {"kind": "swr", "window": window}
    # AdamW turns the rounding of a small gradient into a step, whose size is the learning rate.
    slow, distillation = training(2, learning_rate=5e-5), {"every": 1, "steps": 2, "learning_rate": 5e-5}
    rl = spec(
        kl_coef=0.1, optimizer=OPTIMIZERS[name], decoding=decoding, training=slow, distillation=distillation
    )  # fmt: skip
    whole = train(rl, toy_episodes, tmp_path / "1")
    assert not equal(weights(whole.policy), weights(module(spec(), toy_episodes)[0].policy))
    divided = train(rl, toy_episodes, tmp_path / "3", micro_batches=3, sampling_parts=4)
    for key, values in whole.state_dict().items():
        torch.testing.assert_close(divided.state_dict()[key], values, atol=1e-5, rtol=0)
    rows, others = (read_tsv(tmp_path / each / "rl.tsv") for each in ("1", "3"))
    for row, other in zip(rows, others, strict=True):
        expected = {key: float(value) for key, value in other.items()}
        assert {key: float(value) for key, value in row.items()} == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_gradient_of_a_batch_does_not_depend_on_the_devices(toy_episodes: list[Episode]) -> None:
    aligned, prompts = module(spec(kl_coef=0.1, distillation=None), toy_episodes)
    batch = default_collate([prompts[0], prompts[5]])
    gradients = []
    for devices in (1, 2):
        rollouts = aligned.sample(batch, devices)
        gradients.append(aligned.gradient(rollouts, aligned.credit(rollouts, devices), devices))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)
    assert gradients[0].abs().max() > 1e-3


def confirmed(*scores: float, psnr: Callable[[int], float] = lambda number: 20.0) -> Callable[[nn.Module, int], Check]:
    """Checks with given scores, one after the other."""
    asked = iter(range(len(scores)))

    def check(policy: nn.Module, step: int) -> Check:
        number = next(asked)
        return Check(step, 0.0, scores[number], psnr(number), 0.0, 0.0)

    return check


class Snapshots(Callback):
    """The policy's weights before each step, from 0."""

    def __init__(self) -> None:
        self.policies: list[dict[str, Tensor]] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        assert isinstance(module, AlignmentModule)
        self.policies.append(weights(module.policy))


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ((1.0, 3.0, 2.0, 2.5), 2),  # the check before step 2
        ((3.0, 1.0, 2.0, 2.5), 0),  # nothing was better than the supervised model
        ((1.0, 2.0, 3.0, 4.0), None),  # the last weights, after step 5
    ],
)
def test_the_guard_restores_the_best_checked_weights(
    scores: tuple[float, ...], best: int | None, tmp_path: Path, toy_episodes: list[Episode]
) -> None:
    snapshots, rl = Snapshots(), spec(steps=6, guard=GUARD | {"patience": 9}, distillation=None)
    trained = train(rl, toy_episodes, tmp_path, snapshots, check=confirmed(*scores))
    assert [check.step for check in trained.check_history] == [0, 2, 4, 6]
    if best is None:
        assert not any(equal(weights(trained.policy), each) for each in snapshots.policies)
    else:
        assert equal(weights(trained.policy), snapshots.policies[best])


def test_a_check_that_loses_fidelity_is_not_the_best(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    snapshots, rl = Snapshots(), spec(steps=4, guard=GUARD, distillation=None)
    check = confirmed(1.0, 2.0, 9.0, psnr=lambda number: (20.0, 20.0, 18.0)[number])
    trained = train(rl, toy_episodes, tmp_path, snapshots, check=check)
    assert equal(weights(trained.policy), snapshots.policies[2])


def test_training_stops_once_patience_is_at_an_end(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    snapshots, rl = Snapshots(), spec(steps=20, guard=GUARD | {"patience": 2}, distillation=None)
    trained = train(rl, toy_episodes, tmp_path, snapshots, check=confirmed(1.0, 5.0, 4.0, 3.0))
    assert [check.step for check in trained.check_history] == [0, 2, 4, 6]
    assert equal(weights(trained.policy), snapshots.policies[2])


def test_a_run_killed_after_it_stopped_does_not_go_on(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    # Scores that would find a better policy later on, by the number of updates.
    found = {0: 1.0, 2: 5.0, 4: 4.0, 6: 3.0, 8: 9.0}

    def check(policy: nn.Module, step: int) -> Check:
        return Check(step, 0.0, found[step], 20.0, 0.0, 0.0)

    rl = spec(guard=GUARD | {"patience": 2}, distillation=None, training=training(20, checkpoint_every=1))
    whole = train(rl, toy_episodes, tmp_path / "whole", check=check)
    with pytest.raises(KilledError):
        train(rl, toy_episodes, tmp_path / "broken", KillAfter(7), check=check)
    resumed = train(rl, toy_episodes, tmp_path / "broken", check=check)
    assert [each.step for each in whole.check_history] == [0, 2, 4, 6]
    assert equal(whole.state_dict(), resumed.state_dict())


def test_the_weights_after_the_last_update_are_checked(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    # With five updates and a check before every second one, the last check is before the last update.
    rl = spec(steps=5, guard=GUARD | {"patience": 9}, distillation=None)
    trained = train(rl, toy_episodes, tmp_path, check=confirmed(1.0, 2.0, 3.0, 4.0))
    assert [each.step for each in trained.check_history] == [0, 2, 4, 5]


def test_without_a_guard_the_last_weights_are_kept(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    trained = train(spec(steps=2, distillation=None), toy_episodes, tmp_path)
    fresh, _ = module(spec(), toy_episodes)
    assert not equal(weights(fresh.policy), weights(trained.policy))
    assert trained.check_history == []


def test_windows_of_swr_are_sequences_of_their_own(toy_episodes: list[Episode]) -> None:
    whole, prompts = module(spec(horizon=5, distillation=None), toy_episodes)
    split, _ = module(spec(horizon=5, decoding={"kind": "swr", "window": 2}, distillation=None), toy_episodes)
    batch = torch.utils.data.default_collate([prompts[0], prompts[1]])
    one, several = whole.sample(batch), split.sample(batch)
    assert [(w.start, w.stop) for w in one.windows] == [(0, 5)]
    assert [(w.start, w.stop) for w in several.windows] == [(0, 2), (2, 4), (4, 5)]
    tokenizer = split.parts.tokenizer
    for window in several.windows:
        context, tokens, actions, _ = several.sequence(window)
        # The context is the frame before the window as it was rolled out, not the first one of the rollout.
        before = several.rollouts.videos[:, window.start]
        if window.start == 0:  # one recorded frame for each group
            before = before[:: several.group_size]
        assert torch.equal(context, tokenizer.encode_context(before).tokens)
        assert tokens.shape[1] == actions.shape[1] == window.stop - window.start
    # So the likelihood of the sampled tokens is that of the distribution they were drawn from.
    logits = [split.policy(*several.sequence(window)) for window in several.windows]
    drawn = [
        token_log_probabilities(own, several.sequence(w)[1], 1.0)[0]
        for own, w in zip(logits, several.windows, strict=True)
    ]
    first = token_log_probabilities(whole.policy(*one.sequence(one.windows[0])), one.tokens, 1.0)[0]
    torch.testing.assert_close(drawn[0], first[:, :2])
    assert torch.equal(one.tokens[:, :2], several.tokens[:, :2])


def test_greedy_updates_are_spread_evenly(toy_episodes: list[Episode]) -> None:
    rl = spec(optimizer={"kind": "first_order", "greedy_share": 0.25}, group_size=2)
    trained, prompts = module(rl, toy_episodes)
    item = torch.utils.data.default_collate([prompts[0], prompts[1]])
    greedy = []
    for trained.step in range(8):
        tokens = trained.sample(item).tokens.unflatten(0, (2, 2))
        greedy.append(torch.equal(tokens[:, 0], tokens[:, 1]))
    assert greedy == [False, False, False, True] * 2


def test_a_groups_rollouts_differ_by_their_seeds(toy_episodes: list[Episode]) -> None:
    rl = spec(training=training(1), distillation=None)
    aligned, prompts = module(rl, toy_episodes)
    batch = torch.utils.data.default_collate([prompts[0], prompts[4]])
    made, again = aligned.sample(batch), aligned.sample(batch)
    assert torch.equal(made.tokens, again.tokens), "a function of the step"
    assert made.prompts.tolist() == [0] * 4 + [4] * 4
    assert len(made.tokens[:4].flatten(1).unique(dim=0)) > 1
    aligned.step = 1
    assert not torch.equal(made.tokens, aligned.sample(batch).tokens)
