from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_tools import write

from roboalign.io import digest
from roboalign.store import EpisodeStore, EpisodeWriter, StorageSpec, StoreError, merge
from roboalign.store.spec import ImageFormat
from roboalign.types import Episode, Split

# Shards hold the episodes in another order than the whole store, as a source's tasks are recorded apart.
SHARDS = ((0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11))


def shards(folder: Path, episodes: Sequence[Episode], storage: StorageSpec) -> list[tuple[Path, int, Split | None]]:
    """The stores of the shards, and the places of the episodes in their own order."""
    for number, members in enumerate(SHARDS):
        write(folder / f"shard-{number}", [episodes[m] for m in members], storage=storage)
    return [(folder / f"shard-{number % 3}", number // 3, None) for number in range(12)]


def contents(folder: Path) -> dict[str, str]:
    """The hash of each file of a store, so that a failure names those that differ."""
    return {path.relative_to(folder).as_posix(): digest([path]) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["png", "h264", "av1"])
def test_merged_shards_have_the_bytes_of_the_whole(
    tmp_path: Path, toy_episodes: list[Episode], kind: ImageFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roboalign.store.merging.OPEN_STORES", 2)
    storage = StorageSpec(kind=kind)
    places = shards(tmp_path / "shards", toy_episodes, storage)
    whole = write(tmp_path / "a" / "store", toy_episodes[:12], storage=storage)
    merge(tmp_path / "b" / "store", places)
    assert contents(tmp_path / "b" / "store") == contents(whole)


@pytest.mark.parametrize("kind", ["png", "h264"])
def test_merging_neither_decodes_nor_encodes(
    tmp_path: Path, toy_episodes: list[Episode], kind: ImageFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = shards(tmp_path / "shards", toy_episodes, StorageSpec(kind=kind))

    def never(*_: object) -> None:
        raise AssertionError("a frame was decoded or encoded")

    for name in ("writer.encode_png", "writer.encode_clip", "reader.PngReader", "reader.VideoReader"):
        monkeypatch.setattr(f"roboalign.store.{name}", never)
    merge(tmp_path / "store", places)
    monkeypatch.undo()
    np.testing.assert_array_equal(
        EpisodeStore(tmp_path / "store").frames(4), EpisodeStore(tmp_path / "shards/shard-1").frames(1)
    )


def test_a_split_may_be_given_when_merging(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    places = shards(tmp_path / "shards", toy_episodes, StorageSpec())
    chosen: list[Split] = ["train", "test", "validation"]
    merge(tmp_path / "store", [(path, index, chosen[n % 3]) for n, (path, index, _) in enumerate(places)])
    store = EpisodeStore(tmp_path / "store")
    assert [info.split for info in store.infos] == chosen * 4
    assert [info.id for info in store.infos] == [e.id for e in toy_episodes[:12]]
    given = [replace(e, split=chosen[n % 3]) for n, e in enumerate(toy_episodes[:12])]
    assert digest([write(tmp_path / "again" / "store", given)]) == digest([tmp_path / "store"])


def test_episodes_may_be_added_and_appended(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    store = EpisodeStore(write(tmp_path / "some", toy_episodes[:2]))
    with EpisodeWriter(tmp_path / "store", fps=10) as writer:
        writer.add(toy_episodes[5])
        writer.append(store, 1)
    back = EpisodeStore(tmp_path / "store")
    assert [info.id for info in back.infos] == ["toy/000005", "toy/000001"]
    np.testing.assert_array_equal(back.frames(1), toy_episodes[1].frames)


def test_stores_that_do_not_fit_are_refused(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    one = write(tmp_path / "one", toy_episodes[:2])
    faster = write(tmp_path / "faster", toy_episodes[:2], fps=20)
    video = write(tmp_path / "video", toy_episodes[:2], storage=StorageSpec(kind="h264"))
    finer = write(tmp_path / "finer", toy_episodes[:2], storage=StorageSpec(kind="h264", crf=3))
    for first, second, named in ((one, faster, "frames per second"), (one, video, "images"), (video, finer, "images")):
        with pytest.raises(StoreError, match=named):
            merge(tmp_path / "store", [(first, 0, None), (second, 1, None)])
    with pytest.raises(StoreError, match="no episode"):
        merge(tmp_path / "store", [])
    assert not (tmp_path / "store").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_shard_is_named_and_nothing_is_written(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    for kind, pattern in (("png", "*.parquet"), ("h264", "*.mp4")):
        places = shards(tmp_path / kind, toy_episodes, StorageSpec.model_validate({"kind": kind}))
        folder = tmp_path / kind / "shard-1" / ("data" if kind == "png" else "videos")
        (path,) = folder.rglob(pattern)
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 8
        path.write_bytes(bytes(content))
        with pytest.raises(StoreError, match=f"shard-1.*{path.name}"):
            merge(tmp_path / "store", places)
        assert not (tmp_path / "store").exists()
