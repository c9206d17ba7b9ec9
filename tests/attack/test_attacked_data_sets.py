"""Mutated data sets of every format: each ends in episodes, damage or one clear error; nothing outside is touched."""

import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import lerobot_files as arm
import numpy as np
import psutil
import pytest
import rlds_files as toy
import test_aloha
import test_calvin
import test_ctrl_world
import test_libero
import test_npz_episodes
import test_videos
from reading import read_all

from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.spec import RecordedSpec
from tests.attack.conftest import SCALE, Tell
from tests.attack.mutations import Mutate, hdf5, json_file, json_lines, mp4_field, npy_header, npz, parquet, raw_bytes
from tests.attack.outside import Outside, watched

SECONDS, BYTES = 20.0, 700 * 2**20
"""What one hostile data set may take; it is a few hundred kilobytes large."""


def record(path: Path, rng: random.Random, outside: Outside) -> None:
    """An episode of RLDS whose features are other values, framed soundly."""
    found = toy.record(1)
    key = rng.choice(list(found))
    texts = [[b"\xff"], [b"a\0b"] * 5, [], [b"x" * 10**6], [f"../{outside.folder.name}/secret".encode()]]
    arrays = [np.zeros(0), np.full(5, 2**62), np.full(15, np.nan, np.float32), np.arange(10**5)]
    found[key] = rng.choice([*texts, *arrays])
    if rng.random() < 0.3:
        del found[rng.choice(list(found))]
    data = bytearray(toy.example(found))
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(b"".join(toy.framed(each) for each in (toy.example(toy.record(0)), bytes(data))))


def annotations(path: Path, rng: random.Random, outside: Outside) -> None:
    """CALVIN's annotations with other values, or with the opcodes of a pickle changed."""
    value = test_calvin.annotations()
    odd: list[Any] = [None, 3, "x", b"\xff", [], {}, "a\ud800", [["x"]], np.zeros(3), 10**4000, {("a", "b"): 1}, {1, 2}]
    match rng.randrange(4):
        case 0:
            value[rng.choice(["language", "info"])] = rng.choice(odd)
        case 1:
            value["language"][rng.choice(["ann", "task", "emb"])] = rng.choice(odd)
        case 2:
            value["info"]["indx"][rng.randrange(3)] = rng.choice([*odd, (0, 10**9), (-1, 5), (5, 1), ("a",), (1, 2, 3)])
    protocol = rng.randrange(6)
    content = bytearray(test_calvin.npy(value, protocol).getvalue())
    if rng.random() < 0.6:
        start = content.index(b"\n") + 1
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(start, len(content))
            content[place] = rng.choice(b"]}(tuaesbR0h\x94\x85\x86\x87\x8c\x93\x8f\x90\x81cPQ.2")
    path.write_bytes(content)


def write_videos_with_tables(folder: Path) -> None:
    """Videos whose actions lie beside them, as `.npz` and `.npy`."""

    def move(place: Path, lines: list[test_videos.Line]) -> None:
        (place / "tables").mkdir()
        for number, line in enumerate(lines):
            name = f"tables/{number}.{'npy' if number == 1 else 'npz'}"
            rows = np.asarray(line.pop("actions"))
            np.save(place / name, rows) if number == 1 else np.savez(place / name, table=rows)
            line["table"] = name

    test_videos.write(folder, move)


def write_aloha(folder: Path, form: str) -> None:
    """Three episodes, whose images are arrays, or images of varying size."""
    test_aloha.write(folder, test_npz_episodes.three(), form)


@dataclass(frozen=True)
class Target:
    """A small valid data set, and what is changed in it: patterns of files, and how."""

    write: Callable[[Path], object]
    spec: Callable[[Path], RecordedSpec]
    changes: tuple[tuple[str, Mutate], ...]


TARGETS = {
    "lerobot 2": Target(
        lambda folder: arm.write(folder, 2),
        arm.spec,
        (
            ("meta/info.json", json_file), ("meta/tasks.jsonl", json_lines), ("meta/episodes.jsonl", json_lines),
            ("data/*/*.parquet", parquet), ("data/*/*.parquet", raw_bytes), ("videos/*/*/*.mp4", raw_bytes),
        ),
    ),
    "lerobot 3": Target(
        lambda folder: arm.write(folder, 3, "image"),
        arm.spec,
        (
            ("meta/info.json", json_file), ("meta/tasks.parquet", parquet), ("meta/episodes/*/*.parquet", parquet),
            ("data/*/*.parquet", parquet), ("meta/*.parquet", raw_bytes),
        ),
    ),
    "rlds": Target(
        lambda folder: toy.write(folder, [toy.record(number) for number in range(3)]),
        lambda folder: toy.SPEC.validate_python(toy.spec(folder)),
        (
            ("features.json", json_file), ("dataset_info.json", json_file), ("toy-train*", record),
            ("toy-train*", raw_bytes),
        ),
    ),
    "libero": Target(
        lambda folder: test_libero.write(folder / "a.hdf5"), test_libero.spec, (("a.hdf5", hdf5), ("a.hdf5", raw_bytes))
    ),
    "calvin": Target(
        test_calvin.write,
        test_calvin.spec,
        (
            ("training/lang_annotations/*.npy", annotations), ("training/episode_00000?0.npz", npz),
            ("training/episode_00000?2.npz", npy_header), ("training/*.np?", raw_bytes),
        ),
    ),
    "videos": Target(
        test_videos.write,
        test_videos.spec,
        (("episodes.jsonl", json_lines), ("clips/*.mp4", raw_bytes), ("clips/*.mp4", mp4_field)),
    ),
    "videos with tables": Target(
        write_videos_with_tables,
        lambda folder: test_videos.spec(folder, actions=[{"key": "table"}]),
        (
            ("episodes.jsonl", json_lines), ("tables/0.npz", npz), ("tables/1.npy", npy_header),
            ("tables/?.np?", raw_bytes),
        ),
    ),
    "npz": Target(
        lambda folder: test_npz_episodes.write(folder, test_npz_episodes.three()),
        lambda folder: test_npz_episodes.spec(folder, 2, instruction="instruction"),
        (("*.npz", npz), ("*.npz", npy_header), ("*.npz", raw_bytes)),
    ),
    "aloha": Target(
        lambda folder: write_aloha(folder, "raw"),
        lambda folder: test_aloha.spec(folder, 2, camera=f"{test_aloha.IMAGES}/image"),
        (("*.hdf5", hdf5), ("*.hdf5", raw_bytes)),
    ),
    "aloha, compressed": Target(
        lambda folder: write_aloha(folder, "vlen"),
        lambda folder: test_aloha.spec(folder, 2, camera=f"{test_aloha.IMAGES}/image"),
        (("*.hdf5", hdf5), ("*.hdf5", raw_bytes)),
    ),
    "ctrl_world": Target(
        lambda folder: test_ctrl_world.write(folder, test_npz_episodes.three()),
        lambda folder: test_ctrl_world.spec(folder, 2, instruction="texts"),
        (
            ("annotation/train/*.json", json_file), ("annotation/train/*.json", raw_bytes),
            ("videos/train/*/*.mp4", raw_bytes), ("videos/train/*/*.mp4", mp4_field),
        ),
    ),
}  # fmt: skip


def secrets(folder: Path) -> None:
    """Files beside the data set, as a reader would like them."""
    folder.mkdir()
    (folder / "secret").write_bytes(bytes(range(256)) * 20)
    test_videos.film(folder / "secret.mp4", test_videos.frames(7))
    with h5py.File(folder / "secret.hdf5", "w") as file:
        file["x"] = np.ones((7, 7), np.uint8)
        file.create_group("data/demo_0")["actions"] = np.ones((7, 7))


def read_or_refuse(target: Target, data: Path, inspect: bool) -> str:
    """What becomes of a data set; any other error than ours is raised."""
    try:
        episodes, damaged, _ = read_all(target.spec(data), data.parent / "cache")
        if inspect:
            propose(str(data), {}, data.parent / "cache").text().encode()
    except SourceError as error:
        str(error).encode()
        return "refused"
    return "damaged" if damaged else "read" if episodes else "empty"


@contextmanager
def limited_memory() -> Iterator[None]:
    """Refuse memory far beyond what a data set may take: a fault then ends the test, not the machine's other work."""
    used = psutil.Process().memory_info().vms
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def campaign(target: Target, place: Path, seeds: range) -> Counter[str]:
    """Read mutated copies of a data set, every fourth also by `inspect`."""
    found: Counter[str] = Counter()
    secrets(place / "outside")
    target.write(place / "whole")
    data = place / "data"
    with watched(place / "outside") as outside, limited_memory():
        for seed in seeds:
            rng = random.Random(seed)
            shutil.rmtree(data, ignore_errors=True)
            shutil.copytree(place / "whole", data)
            pattern, mutate = rng.choice(target.changes)
            mutate(rng.choice(sorted(data.glob(pattern))), rng, outside)
            started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                found[read_or_refuse(target, data, inspect=seed % 4 == 0)] += 1
            except Exception as error:
                error.add_note(f"seed {seed}, {mutate.__name__}")
                raise
            assert time.monotonic() - started < SECONDS, f"seed {seed} took too long"
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            assert grown < BYTES, f"seed {seed} took {grown} bytes"
    assert not outside.opened
    assert not outside.calls
    return found


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_data_sets(tmp_path: Path, name: str) -> None:
    found = campaign(TARGETS[name], tmp_path, range(6))
    assert found.total() == 6


@pytest.mark.attack
@pytest.mark.parametrize("name", TARGETS)
def test_many_hostile_data_sets(tmp_path: Path, name: str, tell: Tell) -> None:
    found = campaign(TARGETS[name], tmp_path, range(1000, 1000 + 160 * SCALE))
    tell(name, data_sets=found.total(), **found, uncaught=0, outside_reads=0, connections=0)


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    secrets(tmp_path / "outside")
    with watched(tmp_path / "outside") as outside:
        with h5py.File(tmp_path / "a.hdf5", "w") as file:
            file.create_dataset("x", (8,), "u1", external=[(str(tmp_path / "outside/secret"), 0, 8)])
        with h5py.File(tmp_path / "a.hdf5") as file:
            assert file["x"][3] == 3
    assert "secret" in outside.opened
