import io
from pathlib import Path
from typing import Any

import lerobot_files as arm
import numpy as np
import pytest
import rlds_files as toy
from web import serving

from roboalign.sources.errors import SourceError
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.lerobot import Lerobot
from roboalign.sources.readers.reader import RawEpisode
from roboalign.sources.readers.rlds import Rlds


def test_a_remote_file_is_fetched_block_by_block_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roboalign.sources.readers.blocks.BLOCK", 16384)
    records = [toy.record(n) | {"steps/observation/other": [bytes(20_000)] * toy.LENGTHS[n]} for n in range(3)]
    folder = toy.write(tmp_path / "data", records)
    whole = (folder / toy.shard()).stat().st_size
    with serving(folder) as (address, sent):
        spec = toy.SPEC.validate_python(toy.spec(folder) | {"uri": address})

        def reader() -> Rlds:
            return Rlds(spec, Files.at(spec.uri, spec.options, tmp_path / "cache"))

        first = reader()
        (part,) = first.parts()
        assert sent[toy.shard()] == 0
        episodes = first.read(part)
        raw = next(episodes)
        assert isinstance(raw, RawEpisode)
        assert np.array_equal(next(raw.images([0])), toy.frames(0)[0])
        assert 0 < sent[toy.shard()] < whole / 2
        assert [each.name for each in episodes] == [f"train-00000-of-00001#{n}" for n in (1, 2)]
        assert sent[toy.shard()] == whole
        again = list(reader().read(part))
        assert [isinstance(each, RawEpisode) for each in again] == [True] * 3
        assert sent[toy.shard()] == whole  # from the cache


def test_a_remote_place_that_is_not_there(tmp_path: Path) -> None:
    with serving(tmp_path) as (address, _):
        spec = toy.SPEC.validate_python(toy.spec(tmp_path) | {"uri": f"{address}/nowhere"})
        with pytest.raises(SourceError, match=r"nowhere has no features\.json"):
            Rlds(spec, Files.at(spec.uri, spec.options, tmp_path / "cache"))
    with pytest.raises(SourceError, match=r"nowhere does not exist"):
        Files.at(f"{tmp_path}/nowhere", {}, tmp_path / "cache")
    with pytest.raises(SourceError, match=r"cannot be opened"):
        Files.at("what://ever", {}, tmp_path / "cache")


@pytest.mark.parametrize("kind", ["video", "image"])
def test_lerobot_is_read_in_place(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roboalign.sources.readers.blocks.BLOCK", 1024)
    folder = arm.write(tmp_path / "data", 3, kind)
    with serving(folder) as (address, sent):
        spec = arm.spec(folder, uri=address)
        reader = Lerobot(spec, Files.at(address, {}, tmp_path / "cache"))
        parts = reader.parts()
        found = [each for part in parts for each in reader.read(part)]
        for number, raw in enumerate(found):
            assert isinstance(raw, RawEpisode)
            assert arm.close(np.stack(list(raw.images([0, 2]))), arm.frames(number)[[0, 2]], kind)
        whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert 0 < sent.total() <= whole  # nothing is fetched twice


class Lost(io.BytesIO):
    """A file whose connection is lost when it is read."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise ConnectionResetError("reset by peer")


@pytest.mark.parametrize("suffix", ["parquet", "mp4", "tfrecord-00000-of-00001"])
def test_a_lost_connection_is_no_damage(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Files.open

    def lost(self: Files, name: str) -> Any:
        file = plain(self, name)
        if not name.endswith(suffix) or name.startswith("meta"):
            return file
        with file:
            return Lost(file.read())

    if suffix.startswith("tfrecord"):
        toy.write(tmp_path / "data", [toy.record(n) for n in range(3)])
    else:
        arm.write(tmp_path / "data", 3, "video")
    monkeypatch.setattr(Files, "open", lost)
    make = toy.made if suffix.startswith("tfrecord") else arm.made
    with pytest.raises(SourceError, match=r"cannot be fetched: reset by peer; run it again"):
        make(tmp_path / "data", tmp_path)
