"""The token cache is the same, byte for byte, however many workers encode it, and after an interruption."""

from pathlib import Path
from typing import Any

import pytest

from roboalign.checkpoint import save_model
from roboalign.executor import Workers
from roboalign.io import read_json, write_json
from roboalign.pipeline import tokens as module
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.pipeline.tokens import TokenInputs, encode_tokens
from roboalign.sources.index import entry
from roboalign.store import EpisodeWriter
from roboalign.types import Episode
from roboalign.world_model.segment_spec import SegmentSpec
from roboalign.world_model.segments import Segment, TokenShard, encode_shard, open_segments, split_into_shards
from tests.conftest import toy_episode
from tests.small_models import tokenizer


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> TokenInputs:
    """Seven training episodes of different lengths, one for tests, and a small tokenizer, as files."""
    root = tmp_path_factory.mktemp("experiment")
    episodes: list[Episode] = [toy_episode(number, length=6 + number, size=16) for number in range(7)]
    episodes.append(toy_episode(7, split="test", size=16))
    with EpisodeWriter(root / "episodes/toy", fps=10.0) as writer:
        for episode in episodes:
            writer.add(episode)
    write_json(root / "sources/index.json", {"sources": {"toy": entry(root / "episodes/toy", root)}})
    model = tokenizer(3)
    save_model(root / "tokenizer.safetensors", model, model.spec, "x")
    segment = SegmentSpec(frames=4, stride=1, reencoded=0.5)
    return TokenInputs(root / "sources/index.json", root / "tokenizer.safetensors", segment, contexts=2)


def encode(inputs: TokenInputs, folder: Path, workers: Workers) -> dict[str, bytes]:
    """The bytes of the cache by file."""
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    encode_tokens(inputs, folder / "tokens", folder / "scratch", ModelExecutor(workers), lambda text: None)
    return {file.name: file.read_bytes() for file in (folder / "tokens").iterdir()}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    def split(segments: list[Segment]) -> list[TokenShard]:
        return split_into_shards(segments, 6)

    monkeypatch.setattr(module, "split_into_shards", split)


@pytest.mark.usefixtures("small_shards")
def test_any_number_of_workers_encodes_the_same_bytes(
    inputs: TokenInputs, tmp_path: Path, alone: Workers, workers: Workers
) -> None:
    expected = encode(inputs, tmp_path / "alone", alone)
    assert len(expected) > 4
    assert encode(inputs, tmp_path / "workers", workers) == expected
    segments = open_segments(tmp_path / "workers/tokens")
    assert (
        len(segments)
        == sum(length - 4 for length in range(6, 13))
        == sum(read_json(tmp_path / "workers/tokens/index.json").values())
    )
    assert {int(segments[n]["episode"]) for n in range(len(segments))} == set(range(7))


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_run_goes_on(
    inputs: TokenInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: Workers
) -> None:
    whole = encode(inputs, tmp_path / "whole", alone)
    encoded: list[str] = []

    def count(codec: Any, corpus: Any, spec: SegmentSpec, shard: TokenShard, folder: Path, **options: Any) -> str:
        if not (folder / shard.file).exists():
            encoded.append(shard.file)
        return encode_shard(codec, corpus, spec, shard, folder, **options)

    def stop_after_two(*arguments: Any, **options: Any) -> str:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        return count(*arguments, **options)

    monkeypatch.setattr(module, "encode_shard", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        encode(inputs, tmp_path, alone)
    assert not (tmp_path / "tokens").exists()
    monkeypatch.setattr(module, "encode_shard", count)
    assert encode(inputs, tmp_path, alone) == whole
    assert len(encoded) == len(set(encoded)) == len(whole) - 1
