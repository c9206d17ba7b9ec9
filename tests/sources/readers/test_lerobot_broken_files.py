import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lerobot_files as arm
import numpy as np
import pytest

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.convert import convert
from roboalign.sources.readers.reader import Damaged, RawEpisode
from roboalign.store import EpisodeWriter

DATA, VIDEO = "data/chunk-000/episode_000001.parquet", f"videos/chunk-000/{arm.CAMERA}/episode_000001.mp4"


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(share * len(content))]


def spoilt(content: bytes) -> bytes:
    """Zeros in the middle."""
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


@pytest.mark.parametrize(
    ("path", "change", "reason"),
    [
        (DATA, None, "its data file .*episode_000001.parquet is missing"),
        (DATA, "folder", "its data file .*episode_000001.parquet is missing"),
        (VIDEO, "folder", "its video .*episode_000001.mp4 is missing"),
        (DATA, cut(0.9), "its data file .*episode_000001.parquet cannot be read"),
        (DATA, cut(0.0), "cannot be read"),
        (DATA, lambda _: b"PAR1 nothing at all PAR1", "cannot be read"),
        (VIDEO, None, "its video .*episode_000001.mp4 is missing"),
        (VIDEO, cut(0.6), "its video .*episode_000001.mp4 (cannot be decoded|has no video stream)"),
        (VIDEO, cut(0.0), "cannot be decoded"),
        (VIDEO, spoilt, "cannot be decoded|is damaged|ends before"),
        (VIDEO, lambda _: b"no video" * 100, "cannot be decoded"),
        (VIDEO, lambda content: content.replace(b"avc1", b"what"), "has a codec that cannot be decoded"),
    ],
)
def test_a_damaged_file_of_version_2(path: str, change: Any, reason: str, tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 2, "video")
    file = tmp_path / "data" / path
    content = file.read_bytes()
    file.unlink()
    if change == "folder":
        file.mkdir()
    elif change:
        file.write_bytes(change(content))
    report, store = arm.made(tmp_path / "data", tmp_path)
    (damaged,) = report.damaged
    assert damaged.name == "episode_000001"
    assert re.search(reason, damaged.reason), damaged.reason
    assert len(store) == 2


@pytest.mark.parametrize("change", [None, cut(0.8), lambda _: b"PAR1 nothing PAR1"])
def test_a_damaged_data_file_of_version_3_loses_its_own_episodes(change: Any, tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "image")
    file = tmp_path / "data/data/chunk-000/file-000.parquet"
    content = file.read_bytes()
    file.unlink()
    if change:
        file.write_bytes(change(content))
    report, store = arm.made(tmp_path / "data", tmp_path)
    assert [each.name for each in report.damaged] == ["episode_000000", "episode_000001"]
    assert all(re.search("file-000.parquet (is missing|cannot be read)", each.reason) for each in report.damaged)
    assert [info.id for info in store.infos] == ["arm/episode_000002"]


def test_a_shared_video_that_is_too_short_loses_what_it_lacks(tmp_path: Path) -> None:
    def spoil(plan: arm.Plan) -> None:
        plan["frames"][2] = plan["frames"][2][:-2]

    arm.write(tmp_path / "data", 3, "video", spoil)
    report, store = arm.made(tmp_path / "data", tmp_path)
    (damaged,) = report.damaged
    assert damaged.name == "episode_000002"
    assert re.search("has 16 frames, not the 18 that its episodes need", damaged.reason)
    assert len(store) == 2


def test_a_shared_video_of_another_rate(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "video")
    path = tmp_path / "data/videos" / arm.CAMERA / "chunk-000/file-000.mp4"
    arm.video(path, np.concatenate([arm.frames(number) for number in range(3)]), rate=2 * arm.FPS)
    for damaged in (each for each in arm.read(tmp_path / "data") if isinstance(each, RawEpisode)):
        with pytest.raises(DamagedError, match=r"has a frame at \d\.\d+ s, between two expected frames|ends before"):
            list(damaged.images(range(damaged.length)))


@pytest.mark.parametrize("version", [2, 3])
def test_an_episode_listed_twice_and_one_not_at_all(version: int, tmp_path: Path) -> None:
    arm.write(tmp_path / "twice", version, "image")
    if version == 2:
        path = tmp_path / "twice/meta/episodes.jsonl"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], lines[0], "{what", lines[2]]))
        wrong = ["meta/episodes.jsonl:2", "meta/episodes.jsonl:3", "meta"]
    else:
        (tmp_path / "twice/meta/episodes/chunk-000/file-001.parquet").write_bytes(
            (tmp_path / "twice/meta/episodes/chunk-000/file-000.parquet").read_bytes()
        )
        again = "meta/episodes/chunk-000/file-001.parquet"
        wrong = [f"{again}#0", f"{again}#1", "meta"]
    report, store = arm.made(tmp_path / "twice", tmp_path)
    assert [each.name for each in report.damaged] == wrong
    assert "is listed twice" in report.damaged[0].reason
    missing = 1 if version == 2 else 2
    assert report.damaged[2].reason == f"1 of the 3 episodes in meta/info.json are not listed: {missing}"
    assert [info.id for info in store.infos] == [f"arm/episode_{n:06d}" for n in ((0, 2) if version == 2 else (0, 1))]


def test_a_broken_list_of_version_3(tmp_path: Path) -> None:
    arm.write(tmp_path / "data", 3, "image")
    (tmp_path / "data/meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1")
    report, store = arm.made(tmp_path / "data", tmp_path)
    assert [each.name for each in report.damaged] == ["meta/episodes/chunk-000/file-000.parquet", "meta"]
    assert "2 of the 3 episodes in meta/info.json are not listed: 0, 1" in report.damaged[1].reason
    assert [info.id for info in store.infos] == ["arm/episode_000002"]


def test_a_flipped_bit_in_an_own_store_is_found(toy_episodes: Any, tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "data", fps=10) as writer:
        for episode in toy_episodes[:2]:
            writer.add(episode)
    (file,) = (tmp_path / "data/data").rglob("*.parquet")
    content = bytearray(file.read_bytes())
    place = content.index(toy_episodes[1].actions[3].tobytes())
    content[place] ^= 1
    file.write_bytes(content)
    changes = {"camera": "observation.images.main", "actions": [{"key": "action"}], "action_width": 4}
    report, store = arm.made(tmp_path / "data", tmp_path, **changes)
    (damaged,) = report.damaged
    assert damaged.name == "episode_000001"
    assert "cannot be read" in damaged.reason
    assert np.array_equal(store.actions(0), toy_episodes[0].actions)


@pytest.mark.parametrize(("version", "kind"), [(2, "video"), (3, "video"), (3, "image")])
def test_no_damage_whatever_ends_in_another_error(version: int, kind: str, tmp_path: Path) -> None:
    arm.write(tmp_path, version, kind)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    rng = np.random.default_rng(version)
    spec = arm.spec(tmp_path)
    refused = 0
    for turn in range(40):
        path = files[turn % len(files)]
        whole = path.read_bytes()
        content, place = bytearray(whole), int(rng.integers(len(whole)))
        match turn // len(files) % 3:
            case 0:
                del content[place:]
            case 1:
                content[place : place + 40] = rng.bytes(len(content[place : place + 40]))
            case _:
                content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            found = [raw if isinstance(raw, Damaged) else convert(raw, spec, "arm") for raw in arm.read(tmp_path)]
            refused += any(isinstance(each, Damaged) for each in found)
        except SourceError:
            refused += 1
        path.write_bytes(whole)
    assert refused > 20
