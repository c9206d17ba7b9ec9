import pytest
import torch
from lightning.pytorch.callbacks import Callback

from roboalign.distributed import BatchShard
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv
from roboalign.spec.training import TrainingSpec
from roboalign.training import fit
from roboalign.world_model.lit import Snapshot, WorldModelTraining, corrupt, early_step
from roboalign.world_model.model import load_world_model, seeded_world_model
from tests.gradients import GradientRecorder, assert_equal_gradients, assert_equal_weights
from tests.world_model.conftest import SHAPE


class KilledError(Exception):
    """Stands for kill -9."""


class Samples(torch.utils.data.Dataset):
    """Random segments; raises after some reads."""

    def __init__(self, batch_of, fatal: int = -1):
        context, dynamics, actions, mask = batch_of(16)
        self.tensors = {"context": context, "dynamics": dynamics, "actions": actions, "action_mask": mask}
        self.reads, self.fatal = 0, fatal

    def __len__(self):
        return 16

    def __getitem__(self, index):
        self.reads += 1
        if self.reads == self.fatal:
            raise KilledError
        return {name: tensor[index] for name, tensor in self.tensors.items()}


def train(spec, data, folder, micro_batches=1, activation_checkpointing=False, callbacks=()):
    """Train from scratch or from what a killed run left in `folder`; the model and the bytes of the snapshot."""
    model = seeded_world_model(spec, SHAPE, 5)
    model.activation_checkpointing = activation_checkpointing
    module = WorldModelTraining(model)
    snapshot = Snapshot(model, early_step(spec.training.steps, spec.early_fraction), folder / "early.safetensors", "p")
    fit(
        module,
        data,
        spec.training,
        DeviceSpec(threads=1),
        label="test",
        scratch=folder,
        curves=folder / "curve.tsv",
        callbacks=(snapshot, *callbacks),
        micro_batches=micro_batches,
    )
    return module.result, (folder / "early.safetensors").read_bytes()


@pytest.fixture
def spec(spec_of):
    training = TrainingSpec(steps=8, batch_size=2, learning_rate=0.02, warmup_steps=1, checkpoint_every=2, log_every=4)
    return spec_of(
        early_fraction=0.5, corruption=0.3, context_corruption=0.1, change_weight=1.0, ema_decay=0.5, training=training
    )


@pytest.mark.parametrize("fatal", [9, 10, 13])
def test_a_killed_run_ends_with_the_same_model_and_the_same_early_model(spec, batch_of, tmp_path, fatal):
    whole, early = train(spec, Samples(batch_of), tmp_path / "whole")
    with pytest.raises(KilledError):
        train(spec, Samples(batch_of, fatal), tmp_path / "killed")
    if fatal < 11:  # a kill between the scratch checkpoint of step 4 and the snapshot of that step
        (tmp_path / "killed" / "early.safetensors").unlink(missing_ok=True)
    again, early_again = train(spec, Samples(batch_of), tmp_path / "killed")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert early == early_again


def test_micro_batches_train_the_same(spec, batch_of, tmp_path):
    # AdamW turns the rounding of a small gradient into a step, whose size is the learning rate.
    training = {"batch_size": 4, "steps": 4, "learning_rate": 2e-3}
    spec = spec.model_copy(update={"training": spec.training.model_copy(update=training)})
    expected, found = GradientRecorder(), {parts: GradientRecorder() for parts in (2, 4)}
    whole, _ = train(spec, Samples(batch_of), tmp_path / "1", callbacks=(expected,))
    for parts in (2, 4):
        divided, _ = train(spec, Samples(batch_of), tmp_path / str(parts), parts, callbacks=(found[parts],))
        assert_equal_gradients(found[parts], expected)
        assert_equal_weights(divided, whole, expected)
        rows, others = (read_tsv(tmp_path / each / "curve.tsv") for each in ("1", str(parts)))
        assert float(rows[0]["loss"]) == pytest.approx(float(others[0]["loss"]), rel=1e-5)
        assert rows[0]["accuracy"] == others[0]["accuracy"]


def test_activation_checkpointing_changes_nothing(spec, batch_of, tmp_path):
    spec = spec.model_copy(update={"dropout": 0.2})
    whole, _ = train(spec, Samples(batch_of), tmp_path / "kept")
    again, _ = train(spec, Samples(batch_of), tmp_path / "recomputed", activation_checkpointing=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert (tmp_path / "kept/curve.tsv").read_bytes() == (tmp_path / "recomputed/curve.tsv").read_bytes()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_average_of_the_weights_is_kept_where_the_spec_asks_for_it(spec_of, batch_of, tmp_path, optimizer):
    training = TrainingSpec(steps=5, batch_size=2, learning_rate=0.02, warmup_steps=1, optimizer=optimizer)
    path = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            path.append(module.model.head.weight.detach().clone())

    def fitted(decay):
        module = WorldModelTraining(seeded_world_model(spec_of(ema_decay=decay, training=training), SHAPE, 5))
        folder = tmp_path / f"{decay}"
        fit(
            module, Samples(batch_of), training, DeviceSpec(threads=1), label="test", scratch=folder,
            curves=folder / "curve.tsv", callbacks=(Watch(),),
        )  # fmt: skip
        return module.result.head.weight

    last = fitted(0.0)
    assert torch.equal(last, path[-1])
    averaged = fitted(0.9)
    expected = path[0]
    for weights in path[1:5]:
        expected = 0.9 * expected + 0.1 * weights
    torch.testing.assert_close(averaged, expected)


def test_the_early_model_is_that_after_its_steps(spec, batch_of, tmp_path):
    train(spec, Samples(batch_of), tmp_path / "whole")
    early = load_world_model(tmp_path / "whole" / "early.safetensors")
    final = seeded_world_model(spec, SHAPE, 5).state_dict()
    assert not torch.equal(early.head.weight, final["head.weight"])
    rows = read_tsv(tmp_path / "whole" / "curve.tsv")
    assert [row["step"] for row in rows] == ["4", "8"]
    assert float(rows[1]["loss"]) > 0
    assert 0 <= float(rows[1]["accuracy"]) <= 1


def test_the_early_step():
    assert [early_step(100, share) for share in (0.0, 0.2, 1.0)] == [0, 20, 99]
    assert early_step(1, 0.5) == 0


def test_corruption_draws_a_share_of_the_codes_anew():
    torch.manual_seed(0)
    codes = torch.zeros(50, 20, 4, dtype=torch.long)
    assert corrupt(codes, 1000, 0.0, BatchShard()) is codes
    assert (corrupt(codes, 1000, 0.25, BatchShard()) > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_initial_weights_are_a_function_of_the_seed(spec):
    before = torch.random.get_rng_state()
    a, b, c = (seeded_world_model(spec, SHAPE, seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())
