import multiprocessing
import pickle
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from store_tools import enlarged, write

from roboalign.io import digest
from roboalign.store import EpisodeStore, EpisodeWriter, StorageSpec, StoreError
from roboalign.store.reader import split_for_threads
from roboalign.store.spec import ImageFormat
from roboalign.store.video import encode_clip
from roboalign.types import Episode, UInt8

FORMATS: tuple[ImageFormat, ...] = ("h264", "av1")


@pytest.fixture(scope="module")
def episodes(toy_episodes: list[Episode]) -> list[Episode]:
    """Six toy episodes of different lengths at 96x96."""
    lengths = (12, 1, 7, 12, 2, 9)
    cut = [
        replace(e, frames=e.frames[:n], actions=e.actions[:n]) for n, e in zip(lengths, toy_episodes[:6], strict=True)
    ]
    return [replace(e, frames=enlarged(e.frames, 3), state=None, keypoints=None, policy="unknown") for e in cut]


@pytest.mark.parametrize("kind", FORMATS)
def test_video_comes_back_nearly_as_it_was(tmp_path: Path, episodes: list[Episode], kind: ImageFormat) -> None:
    store = EpisodeStore(write(tmp_path / "store", episodes, storage=StorageSpec(kind=kind, crf=12)))
    assert store.features["observation.images.main"]["dtype"] == "video"
    for index, episode in enumerate(episodes):
        back = store.read(index)
        assert back.frames.shape == episode.frames.shape
        assert np.abs(back.frames.astype(float) - episode.frames).mean() < 3
        np.testing.assert_array_equal(back.actions, episode.actions)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("gop", [1, 2, 5])
def test_any_frames_in_any_order_are_those_of_the_whole(
    tmp_path: Path, episodes: list[Episode], kind: ImageFormat, gop: int
) -> None:
    folder = write(tmp_path / "store", episodes, storage=StorageSpec(kind=kind, gop=gop))
    store = EpisodeStore(folder)
    whole = [EpisodeStore(folder).frames(index) for index in range(len(episodes))]
    rng = np.random.default_rng(0)
    for _ in range(60):
        index = int(rng.integers(len(episodes)))
        length = len(episodes[index].frames)
        numbers = sorted(rng.choice(length, rng.integers(1, length + 1), replace=False).tolist())
        np.testing.assert_array_equal(store.frames_at(index, numbers), whole[index][numbers])
    np.testing.assert_array_equal(store.frames(0, 4, 4), whole[0][4:4])
    np.testing.assert_array_equal(store.frames(0, -3), whole[0][-3:])


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_episodes_give_the_same_video(tmp_path: Path, episodes: list[Episode], kind: ImageFormat) -> None:
    storage = StorageSpec(kind=kind)
    first = write(tmp_path / "a" / "store", episodes, storage=storage)
    second = write(tmp_path / "b" / "store", episodes, storage=storage)
    assert digest([first]) == digest([second])


@pytest.mark.parametrize("kind", FORMATS)
def test_the_bytes_do_not_depend_on_what_memory_held_before(toy_episodes: list[Episode], kind: ImageFormat) -> None:
    """Encoders get memory from the same heap; what others left there must not decide a bit."""
    rng = np.random.default_rng(0)
    episodes = toy_episodes[:6]
    clips: list[set[bytes]] = [set() for _ in episodes]
    for _ in range(4):
        garbage = [np.full(rng.integers(1, 300_000), rng.integers(256), np.uint8) for _ in range(60)]
        del garbage[::2]
        for known, episode in zip(clips, episodes, strict=True):
            known.add(encode_clip(episode.frames, Fraction(10), kind, StorageSpec(kind=kind)))
    assert [len(known) for known in clips] == [1] * len(clips)


def test_video_is_split_by_size_and_by_time(
    tmp_path: Path, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = StorageSpec(kind="h264")
    whole = EpisodeStore(write(tmp_path / "whole", episodes, storage=storage))
    monkeypatch.setattr("roboalign.store.layout.VIDEO_SECONDS", 2)
    by_time = write(tmp_path / "time", episodes, storage=storage)
    monkeypatch.setattr("roboalign.store.layout.VIDEO_BYTES", 1000)
    by_size = write(tmp_path / "size", episodes, storage=storage)
    assert len(list(by_time.rglob("*.mp4"))) == 3
    assert len(list(by_size.rglob("*.mp4"))) > 3
    for folder in (by_time, by_size):
        store = EpisodeStore(folder)
        for index in range(len(episodes)):
            np.testing.assert_array_equal(store.frames(index), whole.frames(index))


def test_small_frames_are_kept_without_loss_and_large_ones_as_video() -> None:
    assert StorageSpec().images(64, 64) == "png"
    assert StorageSpec().images(64, 66) == "h264"
    assert StorageSpec().images(65, 101) == "png"
    assert StorageSpec(kind="png").images(256, 320) == "png"
    assert StorageSpec(kind="av1").images(32, 32) == "av1"


def test_a_crf_that_the_codec_does_not_know_is_refused() -> None:
    assert StorageSpec(kind="av1", crf=60).crf == 60
    with pytest.raises(ValueError, match="0 to 51"):
        StorageSpec(kind="h264", crf=60)


def test_video_of_odd_sides_is_refused(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    odd = replace(toy_episodes[0], frames=toy_episodes[0].frames[:, :31])
    with pytest.raises(StoreError, match=r"31x32.*even"):
        write(tmp_path / "store", [odd], storage=StorageSpec(kind="h264"))


def frame_of(store: EpisodeStore, index: int, answers: "multiprocessing.Queue[bytes]") -> None:
    answers.put(store.frames(index, 3, 6).tobytes())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_and_spawned_processes_read_on_their_own(tmp_path: Path, episodes: list[Episode]) -> None:
    store = EpisodeStore(write(tmp_path / "store", episodes, storage=StorageSpec(kind="h264")))
    store.frames(0, 0, 2)
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[bytes] = context.Queue()
    child = context.Process(target=frame_of, args=(store, 3, answers))
    child.start()
    assert answers.get(timeout=60) == EpisodeStore(store.folder).frames(3, 3, 6).tobytes()
    child.join()
    np.testing.assert_array_equal(store.frames(0, 2, 5), EpisodeStore(store.folder).frames(0, 2, 5))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).frames(2), store.frames(2))


def read_all(folder: Path) -> list[UInt8]:
    store = EpisodeStore(folder)
    return [store.frames(index) for index in range(len(store))]


def refusal(folder: Path, true: list[UInt8]) -> str | None:
    """Why the store is refused; None where it gives the true frames."""
    try:
        found = read_all(folder)
    except StoreError as error:
        return str(error)
    for frames, expected in zip(found, true, strict=True):
        np.testing.assert_array_equal(frames, expected)
    return None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", ["frames", "header"])
def test_damage_anywhere_in_a_video_is_named_or_harmless(
    tmp_path: Path, episodes: list[Episode], kind: ImageFormat, part: str
) -> None:
    """A flipped bit in a frame is refused by its checksum; one in what the reader does not use changes nothing."""
    folder = write(tmp_path / "store", episodes, storage=StorageSpec(kind=kind))
    true = read_all(folder)
    (path,) = folder.rglob("*.mp4")
    intact = path.read_bytes()
    header = intact.index(b"moov") - 4
    rng = np.random.default_rng(1)
    places = range(48, header) if part == "frames" else range(header, len(intact))
    refusals = []
    for position in rng.choice(np.array(places), 80, replace=False):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        refusals.append(refusal(folder, true))
    given = [reason for reason in refusals if reason]
    assert all("file-000.mp4" in reason for reason in given)
    assert len(given) == 80 if part == "frames" else given


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_video_that_was_cut_short_is_named(tmp_path: Path, episodes: list[Episode], keep: float) -> None:
    folder = write(tmp_path / "store", episodes, storage=StorageSpec(kind="h264"))
    (path,) = folder.rglob("*.mp4")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(StoreError, match=r"file-000\.mp4"):
        read_all(folder)


def test_a_missing_or_swapped_video_is_named(tmp_path: Path, episodes: list[Episode]) -> None:
    folder = write(tmp_path / "store", episodes, storage=StorageSpec(kind="h264"))
    other = write(tmp_path / "other", list(reversed(episodes)), storage=StorageSpec(kind="h264"))
    (path,), (theirs,) = folder.rglob("*.mp4"), other.rglob("*.mp4")
    path.write_bytes(theirs.read_bytes())
    with pytest.raises(StoreError, match=r"file-000\.mp4"):
        EpisodeStore(folder).frames(0)
    path.unlink()
    with pytest.raises(StoreError, match=r"file-000\.mp4"):
        EpisodeStore(folder).frames(0)


def test_the_video_tells_neither_time_nor_maker(tmp_path: Path, episodes: list[Episode]) -> None:
    (path,) = write(tmp_path / "store", episodes, storage=StorageSpec(kind="h264")).rglob("*.mp4")
    with av.open(str(path), "r") as container:
        told = {**container.metadata, **container.streams.video[0].metadata}
        assert not {"creation_time", "encoder"} & set(told)
        assert container.streams.video[0].average_rate == 10


def test_shares_of_threads_hold_whole_groups() -> None:
    for length, threads, gop in ((16, 2, 8), (50, 4, 8), (7, 2, 1), (40, 3, 50), (1, 4, 1), (33, 4, 2)):
        numbers = [n + 3 for n in range(length)]
        parts = [numbers[share] for share in split_for_threads(numbers, threads, gop)]
        assert [n for part in parts for n in part] == numbers
        assert 1 <= len(parts) <= threads
        assert all(a[-1] // gop != b[0] // gop for a, b in pairwise(parts))
    assert len(split_for_threads(range(16), 2, 8)) == 2
    assert len(split_for_threads(range(100), 4, 8)) == 4


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["png", "h264"])
def test_threads_read_the_same(
    tmp_path: Path, episodes: list[Episode], kind: ImageFormat, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roboalign.store.reader.THREADS", threads)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    store = EpisodeStore(write(tmp_path / "store", episodes, storage=StorageSpec(kind=kind, gop=3)))
    alone = [store.frames_at(0, [n])[0] for n in range(12)]
    np.testing.assert_array_equal(store.frames(0), np.stack(alone))
    if kind == "h264":
        (path,) = store.folder.rglob("*.mp4")
        content = bytearray(path.read_bytes())
        content[content.index(b"mdat") + 200] ^= 1
        path.write_bytes(bytes(content))
        store.close()
        with pytest.raises(StoreError, match=r"file-000\.mp4"):
            store.frames(0)
        np.testing.assert_array_equal(store.frames_at(0, [11])[0], alone[11])


def interrupted(folder: Path, episode: Episode) -> None:
    with EpisodeWriter(folder, fps=10) as writer:
        writer.add(episode)
        raise KeyboardInterrupt


def test_an_interrupted_video_leaves_nothing(tmp_path: Path, episodes: list[Episode]) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "store", episodes[0])
    assert not list(tmp_path.iterdir())
