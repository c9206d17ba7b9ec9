"""Rollouts are the same, byte for byte, however many workers make them."""

from pathlib import Path

import pytest
import torch

from roboalign.checkpoint import save_model
from roboalign.executor import Workers
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.pipeline.rollouts import load_suite
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.pipeline.video_models import TOKENIZER, WORLD_MODELS, VideoModels
from roboalign.rollout.rollout import StoredRollout
from roboalign.rollout.spec import RolloutSpec, SwrSpec, TrueRefreshSpec
from roboalign.sources.index import entry
from roboalign.store import EpisodeWriter
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import save_world_model
from tests.conftest import toy_episode
from tests.small_models import tokenizer, world_model

SPEC = RolloutSpec.model_validate(
    {
        "horizon": 4, "episodes": 5, "batch_size": 2, "drift": {"ages": [1, 2], "starts": [1], "steps": 2},
        "decodings": {"ar": {"kind": "ar"}, "swr": {"kind": "swr", "window": 2}},
        "sampling": {"greedy": ["ar", "swr"], "sampled": ["ar", "swr"]},
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> VideoModels:
    """The files of an experiment with five test episodes and small models."""
    root = tmp_path_factory.mktemp("experiment")
    with EpisodeWriter(root / "artifacts/episodes/toy", fps=10.0) as writer:
        for number in range(6):
            writer.add(toy_episode(number, split="test" if number else "train", size=16))
    index = {"sources": {"toy": entry(root / "artifacts/episodes/toy", root / "artifacts")}}
    write_json(root / "artifacts/sources/index.json", index)
    codec = tokenizer(3)
    save_model(root / TOKENIZER, codec, codec.spec, "x")
    for seed, file in enumerate(WORLD_MODELS.values()):
        save_world_model(root / file, world_model(seed, TokenShape.of(codec.spec, 4)), "x")
    return VideoModels.in_folder(root, "cpu")


def roll_out(parts: VideoModels, folder: Path, workers: Workers) -> list[StoredRollout]:
    """Sampled rollouts of one model, and greedy ones of the other that see true frames."""
    suite = load_suite(SPEC, parts, parts.corpus(), DeviceSpec(threads=1), ModelExecutor(workers), folder)
    return [
        suite.roll(SwrSpec(window=2), "supervised", "sampled"),
        suite.roll(TrueRefreshSpec(window=2), "aligned", "greedy"),
    ]


def test_any_number_of_workers_rolls_out_the_same_bytes(
    parts: VideoModels, tmp_path: Path, alone: Workers, workers: Workers
) -> None:
    expected, shared = roll_out(parts, tmp_path, alone), roll_out(parts, tmp_path, workers)
    assert [*tmp_path.iterdir()] == []  # the files of the frames have no names
    for one, other in zip(expected, shared, strict=True):
        assert one.frames.shape == (5, 5, 3, 16, 16)
        assert one.frames.dtype == torch.uint8
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.tokens, other.tokens)
        assert (one.peak_sequence, one.cache_bytes) == (other.peak_sequence, other.cache_bytes)
    assert not torch.equal(expected[0].frames, expected[1].frames)
