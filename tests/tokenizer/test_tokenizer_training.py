from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_tsv, write_json
from roboalign.metrics.haarpsi import HaarPsi
from roboalign.store import Corpus
from roboalign.tokenizer.data import TokenizerClips, channels_first, evenly_spaced_indices
from roboalign.tokenizer.lit import TokenizerModule
from roboalign.tokenizer.measure import measure
from roboalign.tokenizer.model import DualBranchTokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.training import fit
from roboalign.types import Episode
from tests.gradients import GradientRecorder, assert_equal_gradients, assert_equal_weights

SMOKE = Path(__file__).parents[2] / "specs/tokenizer/smoke.yaml"


def spec(steps: int, **changes: Any) -> TokenizerSpec:
    raw = yaml.safe_load(SMOKE.read_text())
    raw["training"] |= {"steps": steps, "checkpoint_every": 3}
    return TokenizerSpec.model_validate(raw | changes)


def trained(
    folder: Path, corpus: Corpus, spec: TokenizerSpec, micro_batches: int = 1, callbacks: tuple[Callback, ...] = ()
) -> TokenizerModule:
    torch.manual_seed(0)
    module = TokenizerModule(DualBranchTokenizer(spec), spec)
    clips = TokenizerClips(corpus, spec.samples, (32, 32), 0)
    fit(
        module, clips, spec.training, DeviceSpec(threads=1), label="t", scratch=folder, curves=folder / "curve.tsv",
        micro_batches=micro_batches, callbacks=callbacks,
    )  # fmt: skip
    return module


def test_clips_are_later_frames_of_one_episode(toy_episodes: list[Episode]) -> None:
    # Each frame tells its number, each episode its own.
    marked = [
        replace(e, frames=np.stack([np.full_like(f, 16 * i + t) for t, f in enumerate(e.frames)]))
        for i, e in enumerate(toy_episodes[:12])
    ]
    samples = spec(1).samples
    clips = TokenizerClips(Corpus.of(marked), samples, (32, 32), 0)
    distances = set()
    for number in range(0, len(clips), 37):
        clip = clips[number]
        context, later = int(clip["context"][0, 0, 0]), clip["frames"][:, 0, 0, 0].int()
        assert (later // 16 == context // 16).all()
        assert (later > context).all()
        assert (later.diff() >= 0).all()
        distances |= set((later - context).tolist())
        i, t = later[0].item() // 16, later[0].item() % 16
        assert torch.equal(clip["points"][1].flatten(), torch.from_numpy(toy_episodes[i].keypoints[t, :4]))  # type: ignore[index]
    assert distances == set(range(1, 12))
    assert torch.equal(clips[5]["frames"], TokenizerClips(Corpus.of(marked), samples, (32, 32), 0)[5]["frames"])


def test_clips_read_from_the_store_what_memory_cannot_hold(
    toy_episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, samples = Corpus.of(toy_episodes), spec(1).samples
    held = TokenizerClips(corpus, samples, (32, 32), 0)
    monkeypatch.setattr("roboalign.tokenizer.data.MEMORY", 1)
    read = TokenizerClips(corpus, samples, (32, 32), 0)
    assert held.episodes
    assert not read.episodes
    assert torch.equal(held[100]["frames"], read[100]["frames"])


def test_clips_without_keypoints_and_of_another_size(toy_episodes: list[Episode]) -> None:
    bare = Corpus.of([replace(toy_episodes[0], keypoints=None)])
    assert TokenizerClips(bare, spec(1).samples, (32, 32), 0)[0]["points"].isnan().all()
    with pytest.raises(ValueError, match="toy/000000 has frames of 32x32, the tokenizer takes 64x64; set"):
        TokenizerClips(bare, spec(1).samples, (64, 64), 0)


def test_evaluated_frames_spread_over_the_horizon() -> None:
    assert evenly_spaced_indices(32, 30, 8) == [1, 5, 9, 13, 18, 22, 26, 30]
    assert evenly_spaced_indices(5, 30, 8) == [1, 2, 3, 4]
    assert evenly_spaced_indices(32, 30, 1) == [30]
    assert channels_first(np.zeros((2, 4, 6, 3), np.uint8)).shape == (2, 3, 4, 6)


def test_it_learns_more_than_copying_and_says_so(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    corpus = Corpus.of(toy_episodes)
    module = trained(tmp_path, corpus.filter(split="train"), spec(60))
    rows = read_tsv(tmp_path / "curve.tsv")
    assert list(rows[0]) == ["step", "codec", "context", "loss", "mse"]
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    metrics = measure(
        module.model.eval(),
        corpus.filter(split="train"),
        corpus.filter(split="test"),
        HaarPsi(),
        torch.device("cpu"),
    )
    write_json(tmp_path / "metrics.json", metrics)
    assert metrics["n"] == metrics["psnr"]["n"] == 3
    assert metrics["perceptual_name"] == "1 - HaarPSI"
    assert metrics["gates"]["codec_above_copy_context"]["passed"] == (metrics["gain_psnr"]["low"] > 0)
    assert metrics["gain_psnr"]["mean"] > 0
    assert set(metrics["by_source"]) == {"toy"}
    assert 0 < metrics["codes_used_fraction"]["dynamics"] <= 1
    assert metrics["psnr"]["low"] <= metrics["psnr"]["mean"] <= metrics["psnr"]["high"]
    with pytest.raises(ValueError, match="no test episode"):
        measure(module.model, corpus, corpus.filter(source="none"), HaarPsi(), torch.device("cpu"))


@pytest.mark.parametrize("adversarial", [None, {"start": 2, "width": 8, "weight": 0.1}], ids=["plain", "adversarial"])
def test_training_resumes_to_the_same_weights(
    tmp_path: Path, toy_episodes: list[Episode], monkeypatch: pytest.MonkeyPatch, adversarial: dict[str, Any] | None
) -> None:
    corpus, small = Corpus.of(toy_episodes), spec(8, adversarial=adversarial)
    whole = trained(tmp_path / "whole", corpus, small)
    step = TokenizerModule.training_step

    def dying(self: TokenizerModule, batch: Any, index: int) -> Any:
        if self.step == 5:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(TokenizerModule, "training_step", dying)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trained(tmp_path / "killed", corpus, small)
    monkeypatch.undo()
    resumed = trained(tmp_path / "killed", corpus, small)
    assert (tmp_path / "killed/curve.tsv").read_bytes() == (tmp_path / "whole/curve.tsv").read_bytes()
    names = [name for name, tensor in whole.state_dict().items() if not torch.equal(tensor, resumed.state_dict()[name])]
    assert names == []
    assert any(name.startswith("discriminator") for name in whole.state_dict()) == (adversarial is not None)


def test_the_discriminator_waits_for_its_step(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    corpus = Corpus.of(toy_episodes)
    module = trained(tmp_path, corpus, spec(6, adversarial={"start": 4, "width": 8}))
    rows = read_tsv(tmp_path / "curve.tsv")
    assert [bool(row["discriminator"]) for row in rows] == [False, False, True]
    torch.manual_seed(0)
    fresh = TokenizerModule(DualBranchTokenizer(module.spec), module.spec)
    waiting = trained(tmp_path / "waiting", corpus, spec(3, adversarial={"start": 4, "width": 8}))
    assert module.discriminator is not None
    for name, tensor in fresh.state_dict().items():
        if name.startswith("discriminator"):
            assert torch.equal(tensor, waiting.state_dict()[name])
    assert not torch.equal(
        fresh.state_dict()["discriminator.layers.0.weight"], module.state_dict()["discriminator.layers.0.weight"]
    )


def test_the_perceptual_term_trains_and_stays_out_of_checkpoints(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    module = trained(tmp_path, Corpus.of(toy_episodes), spec(2, loss={"perceptual": 1.0}))
    assert float(read_tsv(tmp_path / "curve.tsv")[-1]["perceptual"]) > 0
    assert all(name.startswith("model.") for name in module.state_dict())


def test_reencoded_contexts_are_the_tokenizers_own_output(toy_episodes: list[Episode]) -> None:
    torch.manual_seed(0)
    small = spec(1)
    module = TokenizerModule(DualBranchTokenizer(small), small)
    context, frames = torch.rand(4, 3, 32, 32), torch.rand(4, 2, 3, 32, 32)
    points = torch.rand(4, 3, 2, 2)
    mixed, moved = module.reencode_contexts(context, frames, points)
    assert torch.equal(moved[:, 1:], points[:, 1:])
    assert torch.equal(moved[0, 0], points[0, 1])
    assert torch.equal(moved[1:], points[1:])
    assert torch.equal(mixed[1:], context[1:])
    assert torch.allclose(mixed[0], module.model(context[:1], frames[:1, :1])[1][0, 0], atol=1e-6)
    assert not mixed.requires_grad


def test_micro_batches_train_both_networks_the_same(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    corpus = Corpus.of(toy_episodes)
    small = spec(3, adversarial={"start": 1, "width": 8, "weight": 0.1})
    small = small.model_copy(update={"training": small.training.model_copy(update={"learning_rate": 1e-5})})
    expected, found = GradientRecorder(), {parts: GradientRecorder() for parts in (2, 4)}
    whole = trained(tmp_path / "1", corpus, small, 1, (expected,))
    assert any(name.startswith("discriminator") for name in expected.gradients)
    for parts in (2, 4):
        divided = trained(tmp_path / str(parts), corpus, small, parts, (found[parts],))
        assert_equal_gradients(found[parts], expected)
        assert_equal_weights(divided, whole, expected)
        rows, others = (read_tsv(tmp_path / each / "curve.tsv") for each in ("1", str(parts)))
        for row, other in zip(rows, others, strict=True):
            numbers = {name: float(value) for name, value in other.items() if value}
            assert {name: float(value) for name, value in row.items() if value} == pytest.approx(numbers, rel=1e-4)
