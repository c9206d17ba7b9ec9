"""Alignment with the weights of policy and reference sharded over two ranks: rollouts are those of one process."""

from pathlib import Path

import pytest
import torch
from rl_fakes import make_rollout, module, spec, training
from torch import nn

from roboalign.distributed import is_rank
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv
from roboalign.rl.guard import Check
from roboalign.rl.lit import AlignmentModule
from roboalign.rl.spec import RLSpec
from roboalign.training import fit
from roboalign.types import Episode
from tests.ranks import as_only_rank, run_ranks

SHARDED = DeviceSpec(threads=1, devices=2, strategy="fsdp")


def check_brightness(policy: nn.Module, step: int) -> Check:
    """How bright the policy's rollouts from a grey frame are, and the largest of its weights."""
    frames, actions = torch.full((8, 3, 8, 8), 0.5), torch.zeros(8, 3, 4)
    videos, _ = make_rollout(policy)(frames, actions, torch.ones(8, 4), torch.arange(8))
    largest = max(float(weight.detach().abs().max()) for weight in policy.parameters())
    return Check(step, float(videos.mean()), largest, 20.0, 0.0, 0.0)


def align(rl: RLSpec, episodes: list[Episode], folder: Path, device_spec: DeviceSpec) -> AlignmentModule:
    """Align in two micro-batches on each device."""
    folder.mkdir(exist_ok=True)
    trained, prompts = module(rl, episodes, check=check_brightness, sharded=is_rank(), dropout=False)
    fit(
        trained, prompts, rl.training, device_spec, label="rl", scratch=folder, curves=folder / "rl.tsv",
        micro_batches=2,
    )  # fmt: skip
    return trained


@pytest.mark.parametrize("kind", ["first_order", pytest.param("grpo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ranks_with_sharded_weights_align_as_one_process(
    kind: str, ranks: int, tmp_path: Path, toy_episodes: list[Episode]
) -> None:
    # AdamW turns the rounding of a small gradient into a step, whose size is the learning rate.
    slow, distillation = training(4, learning_rate=5e-5), {"every": 2, "steps": 2, "learning_rate": 5e-5}
    guard = {"every": 2, "prompts": 2, "patience": 3}
    rl = spec(kl_coef=0.1, optimizer={"kind": kind}, training=slow, distillation=distillation, guard=guard)
    alone = align(rl, toy_episodes, tmp_path / "1", DeviceSpec(threads=1))
    if ranks == 1:
        with as_only_rank("rl"):
            align(rl, toy_episodes, tmp_path / "2", DeviceSpec(threads=1))
    else:
        assert run_ranks("rl", align, rl, toy_episodes, tmp_path / "2", SHARDED) == [0, 0]
    loaded = align(rl, toy_episodes, tmp_path / "2", DeviceSpec(threads=1))
    others = loaded.state_dict()
    for name, values in alone.state_dict().items():
        torch.testing.assert_close(others[name], values, atol=1e-5, rtol=0, equal_nan=True, msg=name)
    assert [each.step for each in loaded.check_history] == [0, 2]
    untrained, _ = module(rl, toy_episodes)
    assert not torch.equal(others["policy.head.weight"], untrained.state_dict()["policy.head.weight"])
    for row, other in zip(*(read_tsv(tmp_path / each / "rl.tsv") for each in ("1", "2")), strict=True):
        expected = {key: float(value) for key, value in other.items()}
        assert {key: float(value) for key, value in row.items()} == pytest.approx(expected, rel=1e-4, abs=1e-5)
