"""Materialising a data set: shards, splits, quarantine; a reader of numbers stands in for the formats."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roboalign.hardware.spec import DaskSpec, ExecutorSpec, ProcessesSpec
from roboalign.io import digest, read_json
from roboalign.sources import shards
from roboalign.sources.errors import SourceError
from roboalign.sources.index import metrics
from roboalign.sources.readers.reader import Damaged, Part, RawEpisode
from roboalign.sources.readers.spec import VideosSpec
from roboalign.store import EpisodeStore
from roboalign.types import Episode, UInt8

ALONE = ProcessesSpec(kind="processes", workers=1)


class Numbers:
    """A data set of some parts with five episodes each; those in `bad` are damaged."""

    fps = 10.0

    def __init__(self, parts: int = 4, bad: Sequence[str] = (), short: Sequence[str] = ()) -> None:
        self.count, self.bad, self.short = parts, bad, short
        self.read_parts: list[str] = []

    def parts(self) -> list[Part]:
        return [Part(f"part{number}") for number in range(self.count)]

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        self.read_parts.append(part.path)
        for number in range(5):
            name = f"{part.path}#{number}"
            if name in self.bad:
                yield Damaged(name, "its checksum is wrong")
                continue
            length = 3 if name in self.short else 8
            seed = int(part.path[4:]) * 5 + number

            def images(steps: Sequence[int], seed: int = seed) -> Iterator[UInt8]:
                for step in steps:
                    yield np.full((16, 16, 3), (seed * 11 + step) % 256, np.uint8)

            yield RawEpisode(name, length, images, {"action": np.full((length, 2), seed, np.float32)}, "go")


def spec(**changes: Any) -> VideosSpec:
    base = {
        "kind": "videos", "uri": "numbers", "fps": 10, "actions": [{"key": "action"}], "action_width": 2, "length": 4,
        "image": {"height": 16, "width": 16}, "tolerance": 0.1,
    }  # fmt: skip
    return VideosSpec.model_validate(base | changes)


def materialise(
    tmp_path: Path, reader: Numbers, spec: VideosSpec, monkeypatch: pytest.MonkeyPatch, name: str = "out"
) -> EpisodeStore:
    monkeypatch.setattr(shards, "build_reader", lambda *_: reader)
    folder = tmp_path / name
    shards.materialise(spec, "toy", folder, tmp_path / f"{name}.scratch", tmp_path / "cache", ALONE, lambda *_: None)
    return EpisodeStore(folder)


def test_the_store_holds_every_episode_in_the_order_of_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = materialise(tmp_path, Numbers(), spec(), monkeypatch)
    assert [info.id for info in store.infos] == [f"toy/part{p}#{n}" for p in range(4) for n in range(5)]
    assert store.fps == 10
    assert int(store.frames(7)[2, 0, 0, 0]) == 7 * 11 + 2
    assert {info.split for info in store.infos} == {"train", "validation", "test"}


def test_a_stride_lowers_the_frame_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert materialise(tmp_path, Numbers(), spec(stride=2), monkeypatch).fps == 5


def test_what_is_damaged_or_left_out_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Numbers(bad=["part1#2"], short=["part0#0", "part3#4"])
    store = materialise(tmp_path, reader, spec(), monkeypatch)
    assert len(store) == 17
    assert read_json(store.folder / shards.QUARANTINE) == {
        "damaged": [{"name": "part1#2", "reason": "its checksum is wrong", "lost": 1}],
        "left_out": {"length": 2},
    }
    measured = metrics(store.folder)
    assert (measured["damaged"], measured["left_out"]) == (1, 2)


def test_more_damage_than_tolerated_fails_and_lists_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Numbers(bad=[f"part{p}#0" for p in range(4)])
    with pytest.raises(SourceError, match=r"4 of 20 .*sources\.toy\.tolerance 0\.1(.|\n)*part0#0: its checksum"):
        materialise(tmp_path, reader, spec(), monkeypatch)
    listed = json.loads((tmp_path / "out.scratch/damaged.json").read_text())
    assert len(listed["damaged"]) == 4
    assert not (tmp_path / "out").exists()


def test_a_lost_file_counts_as_the_episodes_it_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(Numbers):
        def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
            if part.path == "part2":
                yield Damaged("part2", "the file is missing", 5)
            else:
                yield from super().read(part)

    with pytest.raises(SourceError, match="5 of 20 episodes"):
        materialise(tmp_path, Missing(), spec(), monkeypatch)
    store = materialise(tmp_path, Missing(), spec(tolerance=0.25), monkeypatch, "again")
    assert metrics(store.folder)["damaged"] == 5


def test_a_source_of_which_nothing_is_left_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"no episode \(20 left out by sources\.toy\.length\)"):
        materialise(tmp_path, Numbers(), spec(length=9), monkeypatch)


def test_no_more_is_read_than_episodes_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Numbers()
    store = materialise(tmp_path, reader, spec(episodes=7), monkeypatch)
    assert [info.id for info in store.infos][-1] == "toy/part1#1"
    assert len(store) == 7
    assert reader.read_parts == ["part0", "part1"]


def test_a_restart_skips_finished_shards_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = materialise(tmp_path, Numbers(bad=["part0#1"]), spec(), monkeypatch)

    class Interrupted(Numbers):
        def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
            for number, raw in enumerate(super().read(part)):
                if part.path == "part2" and number == 3:
                    raise KeyboardInterrupt
                yield raw

    with pytest.raises(KeyboardInterrupt):
        materialise(tmp_path, Interrupted(bad=["part0#1"]), spec(), monkeypatch, "again")
    assert not (tmp_path / "again").exists()
    reader = Numbers(bad=["part0#1"])
    again = materialise(tmp_path, reader, spec(), monkeypatch, "again")
    assert reader.read_parts == ["part2", "part3"]
    assert digest([whole.folder / "meta", whole.folder / "data"]) == digest(
        [again.folder / "meta", again.folder / "data"]
    )


@pytest.mark.parametrize("executor", [DaskSpec(kind="dask", scheduler="local", workers=2)], ids=["dask"])
def test_a_cluster_records_the_same_bytes(tmp_path: Path, executor: ExecutorSpec) -> None:
    from pydantic import TypeAdapter

    from roboalign.sources.spec import SourceSpec

    fetch = TypeAdapter(SourceSpec).validate_python(
        {"kind": "fetch", "episodes": 3, "length": 2, "image": {"height": 16, "width": 16}}
    )
    for name, each in (("alone", ALONE), ("cluster", executor)):
        folder, scratch = tmp_path / name, tmp_path / f"{name}.scratch"
        shards.materialise(fetch, "fetch", folder, scratch, tmp_path / "cache", each, lambda *_: None)
    assert digest([tmp_path / "alone/data", tmp_path / "alone/meta"]) == digest(
        [tmp_path / "cluster/data", tmp_path / "cluster/meta"]
    )


def test_two_episodes_of_one_scene_share_a_split_after_merging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random scenes of a task can coincide: the later episode then joins the split of the first."""
    from pydantic import TypeAdapter

    from roboalign.sources.spec import SourceSpec

    drawn = shards.record

    def coinciding(spec: Any, source: str, assignment: Any, simulator: Any) -> Episode:
        episode = drawn(spec, source, assignment, simulator)
        return replace(episode, scene=f"{episode.task}/{assignment.number % 4}")

    fetch = TypeAdapter(SourceSpec).validate_python(
        {"kind": "fetch", "episodes": 16, "length": 2, "image": {"height": 16, "width": 16}}
    )
    monkeypatch.setattr(shards, "record", coinciding)
    folder = tmp_path / "out"
    shards.materialise(fetch, "fetch", folder, tmp_path / "s", tmp_path / "c", ALONE, lambda *_: None)
    infos = EpisodeStore(folder).infos
    assert len(infos) == 16
    splits: dict[str, set[str]] = {}
    for info in infos:
        splits.setdefault(info.scene, set()).add(info.split)
    assert all(len(found) == 1 for found in splits.values())
    recorded = [
        info.split for shard in sorted((tmp_path / "s").glob("shard-*")) for info in EpisodeStore(shard / "store").infos
    ]
    assert len({*map(str, recorded)}) > 1, "they were recorded with different splits"
