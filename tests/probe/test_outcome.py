from pathlib import Path

import numpy as np
import pytest
import torch
from probe_fakes import perceived_walk

from roboalign.checkpoint import CheckpointError
from roboalign.hardware.spec import DeviceSpec
from roboalign.probe.lit import OutcomeModule
from roboalign.probe.outcome import OutcomeClips, OutcomeModel, load_outcome_model, outcome_loss, save_outcome_model
from roboalign.probe.spec import OutcomeSpec
from roboalign.training import fit

SPEC = OutcomeSpec.model_validate(
    {
        "hidden_size": 32,
        "length": 8,
        "training": {"steps": 200, "batch_size": 32, "learning_rate": 0.01, "warmup_steps": 5, "log_every": 50},
    }
)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> OutcomeModel:
    """Taught by a world in which the gripper moves by 2 cm times the action, and nothing else moves."""
    folder = tmp_path_factory.mktemp("outcome")
    torch.manual_seed(0)
    model = OutcomeModel(SPEC, 2, 3)
    clips = OutcomeClips([perceived_walk(number) for number in range(512)], SPEC.length, 0)
    fit(
        OutcomeModule(model), clips, SPEC.training, DeviceSpec(threads=1), label="t", scratch=folder,
        curves=folder / "c.tsv",
    )  # fmt: skip
    return model.eval().requires_grad_(False)


def test_it_learns_what_actions_lead_to(learned: OutcomeModel) -> None:
    walks = [perceived_walk(number) for number in range(100, 116)]
    states, actions = (torch.from_numpy(np.stack([getattr(w, name) for w in walks])) for name in ("states", "actions"))
    expected = learned(states[:, 0], actions[:, :-1], torch.tensor([w.task for w in walks]))
    assert expected.shape == states.shape
    apart = (expected - states)[:, -1, :3].norm(dim=-1).mean()
    moved = (states[:, :1] - states)[:, -1, :3].norm(dim=-1).mean()
    assert apart < 0.4 * moved
    assert (expected - states)[..., 3:6].norm(dim=-1).mean() < 0.01, "the object stays"


def test_the_first_state_and_the_goal_are_kept(learned: OutcomeModel) -> None:
    first = torch.rand(3, 14, generator=torch.Generator().manual_seed(0))
    expected = learned(first, torch.ones(3, 5, 3), torch.tensor([0, 1, 0]))
    assert torch.equal(expected[:, 0], first)
    assert torch.equal(expected[..., 6:9], first[:, None, 6:9].expand(-1, 6, -1))
    assert torch.equal(expected[..., 11:13], first[:, None, 11:13].expand(-1, 6, -1))
    for column in (9, 10, 13):
        assert ((expected[..., column] >= 0) & (expected[..., column] <= 1)).all()
    assert torch.equal(learned(first, torch.ones(3, 0, 3), torch.zeros(3, dtype=torch.long)), first[:, None])


def test_where_the_world_stands_does_not_matter(learned: OutcomeModel) -> None:
    walk = perceived_walk(1)
    first, actions = torch.from_numpy(walk.states[:1]), torch.from_numpy(walk.actions[None, :-1])
    away = first.clone()
    away[:, :9] += 5
    here, there = (learned(state, actions, torch.tensor([walk.task])) for state in (first, away))
    assert torch.allclose(there[..., :9] - 5, here[..., :9], atol=1e-4)
    assert torch.allclose(there[..., 9:], here[..., 9:], atol=1e-4)


def test_later_actions_do_not_change_earlier_states(learned: OutcomeModel) -> None:
    first = torch.rand(1, 14, generator=torch.Generator().manual_seed(0))
    actions = torch.zeros(1, 6, 3)
    other = actions.clone()
    other[:, 4:] = 1
    one, two = (learned(first, a, torch.tensor([0])) for a in (actions, other))
    assert torch.allclose(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 5:], two[:, 5:])


def test_the_loss_is_zero_only_for_the_truth() -> None:
    states = torch.from_numpy(np.stack([perceived_walk(n).states for n in range(3)]))
    assert outcome_loss(states, states) == pytest.approx(0, abs=1e-4)
    wrong = states.clone()
    wrong[:, 1:, 0] += 0.1
    assert outcome_loss(wrong, states) == pytest.approx(1 / 6, rel=1e-3)


def test_a_stretch_past_the_end_repeats_the_last_state_without_actions() -> None:
    walk = perceived_walk(0)
    clips = OutcomeClips([walk], 10, 0)
    for number in range(len(clips)):
        sample = clips[number]
        assert sample["states"].shape == (10, 14)
        assert sample["actions"].shape == (9, 3)
        still = (sample["states"].diff(dim=0)[:, :3].abs() < 1e-7).all(1)
        assert (sample["actions"][still] == 0).all()
    assert torch.equal(clips[3]["states"], OutcomeClips([walk], 10, 0)[3]["states"])


def test_a_saved_model_expects_the_same(learned: OutcomeModel, tmp_path: Path) -> None:
    path = tmp_path / "outcome.safetensors"
    save_outcome_model(path, learned, 2, "x")
    again = load_outcome_model(path)
    first, actions, tasks = torch.rand(2, 14), torch.rand(2, 4, 3), torch.tensor([0, 1])
    assert torch.equal(again(first, actions, tasks), learned(first, actions, tasks))
    path.write_bytes(b"junk")
    with pytest.raises(CheckpointError):
        load_outcome_model(path)
