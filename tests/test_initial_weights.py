"""`init`: parts start from checkpoints of ours, and what does not fit is named in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from torch.utils.data import TensorDataset

from roboalign.checkpoint import CheckpointError, save_model
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv
from roboalign.probe.spec import OutcomeSpec
from roboalign.reward.init import initial_vocabulary, initialize_reward_model
from roboalign.reward.spec import RewardSpec
from roboalign.rl.spec import RLSpec
from roboalign.spec.base import FieldError
from roboalign.spec.weights import CheckpointInitSpec
from roboalign.student.model import Student, save_student
from roboalign.student.spec import StudentSpec
from roboalign.tokenizer.init import initialize_tokenizer
from roboalign.tokenizer.lit import TokenizerModule
from roboalign.training import fit
from roboalign.types import Episode
from roboalign.world_model.init import initialize_world_model
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import save_world_model
from tests.reward.reward_fakes import smoke_spec, toy_student
from tests.small_models import TRAINING, equal, tokenizer, world_model


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


def at(path: Path) -> CheckpointInitSpec:
    return CheckpointInitSpec(kind="checkpoint", uri=str(path))


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_tokenizer_starts_from_a_checkpoint(tmp_path: Path, as_folder: bool) -> None:
    first, path = tokenizer(0), tmp_path / "model.safetensors"
    save_model(path, first, first.spec, "x")
    # Losses and training may differ; what the network is may not.
    second = tokenizer(1, loss={"mse": 2.0}, training=TRAINING | {"steps": 5})
    assert not equal(first, second)
    said = initialize_tokenizer(second, at(tmp_path if as_folder else path), tmp_path / "scratch")
    assert equal(first, second)
    assert "sha256" in said


def test_a_tokenizer_of_other_levels_is_refused(tmp_path: Path) -> None:
    first = tokenizer(0)
    save_model(tmp_path / "model.safetensors", first, first.spec, "x")
    with pytest.raises(CheckpointError, match=r"its dynamics_levels is \[4, 5, 3\], the spec's is \[5, 4, 3\]"):
        initialize_tokenizer(tokenizer(1, dynamics_levels=[5, 4, 3]), at(tmp_path), tmp_path)


def test_a_world_model_starts_from_a_checkpoint(tmp_path: Path) -> None:
    first, second = world_model(0), world_model(1, dropout=0.5)
    save_world_model(tmp_path / "model.safetensors", first, "x")
    initialize_world_model(second, at(tmp_path), tmp_path / "scratch")
    assert equal(first, second)
    with pytest.raises(CheckpointError, match="its layers is 1, the spec's is 2; make them equal"):
        initialize_world_model(world_model(1, layers=2), at(tmp_path), tmp_path)
    other = TokenShape(6, 4, (4, 3), (3, 5), 2)
    with pytest.raises(
        CheckpointError, match=r"was trained on TokenShape\(.*action_width=3, .*\), tokenizer and sources"
    ):
        initialize_world_model(world_model(1, other), at(tmp_path), tmp_path)


def test_a_file_of_another_part_is_refused(tmp_path: Path) -> None:
    save_world_model(tmp_path / "model.safetensors", world_model(0), "x")
    with pytest.raises(CheckpointError, match="no valid TokenizerSpec; it is not a checkpoint of this part"):
        initialize_tokenizer(tokenizer(0), at(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:9/model.safetensors", r"model\.safetensors cannot be fetched: .*127\.0\.0\.1:9"),
        ("nosuch://place", "cannot be fetched: .*nosuch"),
        ("no/such/folder", r"no/such/folder holds no model\.safetensors; correct `uri`"),
    ],
)
def test_a_place_that_cannot_be_read_is_one_line(tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        initialize_tokenizer(tokenizer(0), CheckpointInitSpec(kind="checkpoint", uri=uri), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_git_lfs_pointer_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 517792064\n"
    )
    with pytest.raises(CheckpointError, match="is a Git LFS pointer, not the 517792064 bytes of the file"):
        initialize_tokenizer(tokenizer(0), at(tmp_path), tmp_path)


def test_a_student_starts_with_the_words_and_the_eyes_of_its_weights(
    tmp_path: Path, toy_episodes: list[Episode], six: RewardSpec
) -> None:
    first = toy_student(toy_episodes[:3], six)
    save_student(tmp_path / "model.safetensors", first, "x")
    spec = StudentSpec.model_validate(smoke_spec("student") | {"init": {"kind": "checkpoint", "uri": str(tmp_path)}})
    words = initial_vocabulary(spec, tmp_path / "scratch")
    assert words == first.vocabulary
    assert spec.init is not None
    torch.manual_seed(7)
    second = Student(spec, six, words, 4, first.eyes, first.outcome)
    assert not equal(first, second)
    initialize_reward_model(second, spec.init, tmp_path / "scratch")
    assert equal(first, second)
    fewer = six.model_copy(update={"dimensions": dict(list(six.dimensions.items())[:5])})
    with pytest.raises(CheckpointError, match="the reward has"):
        initialize_reward_model(Student(spec, fewer, words, 4, first.eyes, first.outcome), spec.init, tmp_path)


def test_no_steps_leave_the_weights_and_an_empty_curve(tmp_path: Path) -> None:
    init = {"kind": "checkpoint", "uri": "anywhere"}
    model = tokenizer(0, training=TRAINING | {"steps": 0}, init=init)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(
        TokenizerModule(model, model.spec), TensorDataset(torch.zeros(0)), model.spec.training, DeviceSpec(threads=1),
        label="tokenizer", scratch=tmp_path, curves=tmp_path / "curve.tsv",
    )  # fmt: skip
    assert read_tsv(tmp_path / "curve.tsv") == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_no_steps_without_weights_are_refused() -> None:
    training = TRAINING | {"steps": 0}
    builds: list[Callable[[], Any]] = [
        lambda: tokenizer(0, training=training),
        lambda: world_model(0, training=training),
        lambda: StudentSpec.model_validate(smoke_spec("student") | {"training": training}),
        lambda: OutcomeSpec.model_validate({"training": training}),
        lambda: RLSpec.model_validate({"training": training, "reward": {"kind": "mse"}}),
    ]
    for build in builds:
        with pytest.raises(ValidationError) as caught:
            build()
        causes = [error.get("ctx", {}).get("error") for error in caught.value.errors()]
        assert any(isinstance(cause, FieldError) and cause.field.endswith("steps") for cause in causes), causes
