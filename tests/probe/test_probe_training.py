from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv
from roboalign.probe.data import ProbeClips, Sample, list_tasks
from roboalign.probe.lit import ProbeModule
from roboalign.probe.measure import MeasuredClip, Medium, measure, measured_clips
from roboalign.probe.model import Probe
from roboalign.probe.spec import ProbeMeasureSpec, ProbeSpec
from roboalign.store import Corpus
from roboalign.training import fit
from roboalign.types import Episode, UInt8
from tests.gradients import GradientRecorder, assert_equal_gradients, assert_equal_weights

SPEC = ProbeMeasureSpec(frames=6, episodes=6, draws=100)


def trained(
    folder: Path,
    seen: list[Episode],
    spec: ProbeSpec,
    killed: bool = False,
    micro_batches: int = 1,
    callbacks: tuple[Callback, ...] = (),
) -> Probe:
    """A probe of the training episodes; a killed run is begun again."""
    episodes = [episode for episode in seen if episode.split == "train"]
    clips = ProbeClips(episodes, list_tasks(episodes), spec.frames, spec.augmentation, 0, None)

    def run(kind: type[ProbeModule]) -> ProbeModule:
        torch.manual_seed(0)
        module = kind(Probe.of(spec.network, episodes, (32, 32)), spec)
        fit(
            module, clips, spec.training, DeviceSpec(threads=1), label="t", scratch=folder, curves=folder / "c.tsv",
            micro_batches=micro_batches, callbacks=callbacks,
        )  # fmt: skip
        return module

    if killed:
        with pytest.raises(KilledError):
            run(Killed)
    return run(ProbeModule).probe.eval()


class KilledError(Exception):
    """The run ends here."""


class Killed(ProbeModule):
    """Ends in its fifth step."""

    def training_step(self, batch: Sample, index: int) -> None:
        if self.step == 4:
            raise KilledError
        super().training_step(batch, index)


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, seen: list[Episode], smoke: ProbeSpec) -> None:
    whole = trained(tmp_path / "whole", seen, smoke)
    resumed = trained(tmp_path / "resumed", seen, smoke, killed=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert read_tsv(tmp_path / "whole/c.tsv") == read_tsv(tmp_path / "resumed/c.tsv")


def media(dim: float) -> dict[str, Medium]:
    """True frames, and frames of two machines that dim them, as tokenizer and world model do not."""

    def dimmed(clips: Sequence[MeasuredClip]) -> list[UInt8]:
        return [np.asarray(clip.shown_frames * dim, np.uint8) for clip in clips]

    return {"true": lambda clips: [clip.shown_frames for clip in clips], "reconstructed": dimmed, "generated": dimmed}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, seen: list[Episode]) -> Probe:
    spec = ProbeSpec.model_validate(
        {
            "widths": [8, 16, 32],
            "hidden_size": 32,
            "members": 2,
            "training": {"steps": 160, "batch_size": 16, "learning_rate": 0.004, "warmup_steps": 10},
        }
    )
    return trained(tmp_path_factory.mktemp("probe"), seen, spec)


def test_it_learns_where_things_are(learned: Probe, seen: list[Episode]) -> None:
    test = Corpus.of(seen).filter(split="test")
    found = measure(learned, measured_clips(learned, test, SPEC), media(1.0), SPEC)
    assert found["n"] == 6
    assert found["sources"] == ["seen"]
    true, mean = found["true"], found["baselines"]["mean_state"]
    for name in ("gripper", "object", "goal"):
        assert true[f"{name}_cm"]["mean"] < 0.5 * mean[f"{name}_cm"]["mean"], name
        assert true["pixels"][name]["mean"] < 2
    assert true["success_auc"]["mean"] > 0.9
    assert found["baselines"]["first_state"]["goal_cm"]["mean"] == 0
    assert found["by_source"]["seen"]["true"] == true


def test_the_media_are_measured_apart_and_generated_frames_by_their_own_names(
    learned: Probe, seen: list[Episode]
) -> None:
    clips = measured_clips(learned, Corpus.of(seen).filter(split="test"), SPEC)
    same, dim = measure(learned, clips, media(1.0), SPEC), measure(learned, clips, media(0.2), SPEC)
    assert same["true"] == same["reconstructed"] == dim["true"]
    assert dim["reconstructed"]["gripper_cm"]["mean"] > dim["true"]["gripper_cm"]["mean"]
    assert set(dim["generated"]) == {"from_true_outcome", "disagreement"}
    assert (
        dim["generated"]["disagreement"]["gripper_cm"]["mean"] > same["generated"]["disagreement"]["gripper_cm"]["mean"]
    )


def test_clips_begin_and_end_with_the_episode(learned: Probe, seen: list[Episode]) -> None:
    clips = measured_clips(learned, Corpus.of(seen).filter(split="test"), SPEC)
    assert {(clip.start, len(clip.shown_frames), len(clip.state)) for clip in clips} == {(0, 7, 7), (3, 7, 7)}
    few = SPEC.model_copy(update={"episodes": 2})
    assert {c.episode.task for c in measured_clips(learned, Corpus.of(seen).filter(split="test"), few)} == {
        "push",
        "place",
    }


def test_without_states_nothing_is_claimed(smoke: ProbeSpec) -> None:
    found = measure(Probe.of(smoke.network, [], (32, 32)), [], media(1.0), SPEC)
    assert found["n"] == 0
    assert found["sources"] == []
    assert "true" not in found


def test_micro_batches_train_each_member_the_same(tmp_path: Path, seen: list[Episode], smoke: ProbeSpec) -> None:
    training = smoke.training.model_copy(update={"steps": 3, "learning_rate": 1e-5})
    short = smoke.model_copy(update={"members": 2, "dropout": 0.0, "training": training})
    expected, found = GradientRecorder(), GradientRecorder()
    whole = trained(tmp_path / "1", seen, short, callbacks=(expected,))
    divided = trained(tmp_path / "4", seen, short, micro_batches=4, callbacks=(found,))
    assert_equal_gradients(found, expected)
    assert_equal_weights(divided, whole, expected)
