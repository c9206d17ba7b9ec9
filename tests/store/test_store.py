import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roboalign.io import digest, write_json
from roboalign.store import ActionRange, Corpus, EpisodeStore, EpisodeWriter, StoreError, decode_png, encode_png
from roboalign.store.images import PngReader
from roboalign.types import Episode


def write(folder: Path, episodes: list[Episode]) -> Path:
    with EpisodeWriter(folder, fps=10) as writer:
        for episode in episodes:
            writer.add(episode)
    return folder


def test_an_episode_comes_back_as_it_was(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    store = EpisodeStore(write(tmp_path / "toy", toy_episodes))
    assert len(store) == len(toy_episodes)
    assert store.fps == 10
    for index in (0, 7, 17):
        back, given = store.read(index), toy_episodes[index]
        for name in ("frames", "actions", "state", "keypoints"):
            np.testing.assert_array_equal(getattr(back, name), getattr(given, name))
        assert (back.id, back.task, back.instruction, back.policy) == (
            given.id,
            given.task,
            given.instruction,
            given.policy,
        )
        assert (back.scene, back.split, back.success) == (given.scene, given.split, given.success)
        assert store.infos[index].success == given.success


def test_a_part_of_the_frames_is_read_alone(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    store = EpisodeStore(write(tmp_path / "toy", toy_episodes))
    np.testing.assert_array_equal(store.frames(4, 3, 6), toy_episodes[4].frames[3:6])
    np.testing.assert_array_equal(store.frames(4, 10), toy_episodes[4].frames[10:])


def test_an_opened_store_can_be_pickled(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    store = EpisodeStore(write(tmp_path / "toy", toy_episodes))
    store.frames(0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).frames(2), toy_episodes[2].frames)


def test_the_same_episodes_give_the_same_bytes(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    first, second = write(tmp_path / "a" / "toy", toy_episodes), write(tmp_path / "b" / "toy", toy_episodes)
    assert digest([first]) == digest([second])


def test_an_episode_without_state_has_no_success(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    bare = [replace(e, state=None, keypoints=None, policy="unknown") for e in toy_episodes[:2]]
    back = EpisodeStore(write(tmp_path / "real", bare)).read(1)
    assert back.state is None
    assert back.keypoints is None
    assert back.success is None


def test_a_failed_writer_leaves_what_was_there(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "toy", toy_episodes[:3])
    before = digest([folder])
    with pytest.raises(AttributeError):
        write(folder, [toy_episodes[5], None])  # type: ignore[list-item]
    assert digest([folder]) == before
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_a_new_store_replaces_the_old_one(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "toy", toy_episodes[:3])
    write(folder, toy_episodes[3:5])
    assert [info.id for info in EpisodeStore(folder).infos] == ["toy/000003", "toy/000004"]
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_large_stores_are_split_into_files(
    tmp_path: Path, toy_episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roboalign.store.layout.FILE_BYTES", 1000)
    folder = write(tmp_path / "toy", toy_episodes[:3])
    assert len(list((folder / "data").rglob("*.parquet"))) == 3
    np.testing.assert_array_equal(EpisodeStore(folder).frames(2), toy_episodes[2].frames)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"actions": np.zeros((12, 3), np.float32)}, "action"),
        ({"state": None}, "observation.state"),
        ({"actions": np.full((12, 4), np.nan, np.float32)}, "finite"),
        ({"keypoints": np.zeros((5, 6), np.float32)}, "keypoints"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(
    tmp_path: Path, toy_episodes: list[Episode], change: dict[str, object], named: str
) -> None:
    with pytest.raises(StoreError, match=named):
        write(tmp_path / "toy", [toy_episodes[0], replace(toy_episodes[1], **change)])
    assert not (tmp_path / "toy").exists()


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no episode"):
        write(tmp_path / "toy", [])


def test_a_missing_store_names_itself_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere.*dvc repro"):
        EpisodeStore(tmp_path / "nowhere")


def corpus(tmp_path: Path, episodes: list[Episode]) -> Path:
    write(tmp_path / "episodes/toy", episodes)
    wide = [replace(e, source="wide", actions=np.tile(e.actions, (1, 2))[:, :6] * 10) for e in episodes[:4]]
    write(tmp_path / "episodes/wide", wide)
    index = {"sources": {}}
    for name, own in (("toy", episodes), ("wide", wide)):
        fit = ActionRange.over([e.actions for e in own if e.split == "train"])
        index["sources"][name] = {
            "folder": f"episodes/{name}",
            "episodes": len(own),
            "frames": sum(len(e.frames) for e in own),
            "action_low": fit.low,
            "action_high": fit.high,
        }
    write_json(tmp_path / "sources/index.json", index)
    return tmp_path / "sources/index.json"


def test_a_corpus_joins_sources_of_different_action_width(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    data = Corpus.open(corpus(tmp_path, toy_episodes))
    assert data.sources == ("toy", "wide")
    assert (len(data), data.action_width) == (22, 6)
    assert data.action_mask(0).tolist() == [True] * 4 + [False] * 2
    assert data.action_mask(20).all()
    assert data.actions(0).shape == (12, 6)
    assert not data.actions(0)[:, 4:].any()
    for i in range(len(data)):
        assert np.abs(data.actions(i)).max() <= 1
    # The same motion in other units normalises to nearly the same numbers (the ranges come from other episodes).
    np.testing.assert_allclose(data.actions(19)[:, :2], data.actions(1)[:, :2], atol=0.3)
    np.testing.assert_array_equal(data.frames(19, 2, 4), toy_episodes[1].frames[2:4])


def test_a_selection_keeps_order_and_width(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    data = Corpus.open(corpus(tmp_path, toy_episodes))
    chosen = data.filter(split="test")
    assert [info.id for info in chosen.infos] == [e.id for e in toy_episodes if e.split == "test"]
    assert chosen.action_width == 6
    assert data.filter(source="wide").sources == ("wide",)
    assert {info.policy for info in data.filter(policy="expert").infos} == {"expert"}
    assert len(data.filter(split="test", source="wide")) == 0


def test_a_corpus_in_memory_reads_the_same(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    opened, memory = Corpus.open(corpus(tmp_path, toy_episodes)).filter(source="toy"), Corpus.of(toy_episodes)
    assert opened.infos == memory.infos
    np.testing.assert_allclose(opened.actions(3)[:, :4], memory.actions(3), atol=1e-4)
    np.testing.assert_array_equal(opened.frames(3), memory.frames(3))


def test_a_store_that_is_not_the_indexed_one_is_refused(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    index = corpus(tmp_path, toy_episodes)
    write(tmp_path / "episodes/toy", toy_episodes[:5])
    with pytest.raises(StoreError, match="not the store"):
        Corpus.open(index)


def test_ranges_are_robust_and_still_dimensions_become_zero() -> None:
    actions = np.linspace(-1, 1, 1001, dtype=np.float32)[:, None].repeat(2, 1)
    actions[0, 0], actions[:, 1] = 1000, 0.3
    fit = ActionRange.over([actions])
    assert fit.high[0] == pytest.approx(0.98, abs=0.01)
    scaled = fit.normalise(actions)
    assert scaled[0, 0] == 1
    assert not scaled[:, 1].any()
    assert scaled[500, 0] == pytest.approx(0, abs=0.03)


def test_the_layout_is_that_of_lerobot(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "toy", toy_episodes)
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["total_frames"] == 18 * 12
    assert info["features"]["observation.images.main"]["shape"] == [32, 32, 3]
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "data/chunk-000/file-000.parquet",
    }


def test_damage_anywhere_in_a_data_file_is_named_or_harmless(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "toy", toy_episodes[:3])
    path = folder / "data/chunk-000/file-000.parquet"
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.choice(len(intact), 100, replace=False):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        store = EpisodeStore(folder)
        for index, given in enumerate(toy_episodes[:3]):
            try:
                back = store.read(index)
            except StoreError as error:
                refused += 1
                named = str(error)
            else:
                named = path.name
                np.testing.assert_array_equal(back.frames, given.frames)
                np.testing.assert_array_equal(back.actions, given.actions)
                np.testing.assert_array_equal(back.state, given.state)
            assert path.name in named
    assert refused > 50


def test_damaged_images_are_refused() -> None:
    image = encode_png(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    out = np.zeros((2, 64, 64, 3), np.uint8)
    PngReader().read([image, image], out)
    np.testing.assert_array_equal(out[1], decode_png(image))
    for cut in (0, 10, 40, len(image) // 2):
        with pytest.raises(StoreError, match="image 1"):
            PngReader().read([image, image[:cut]], out)
    with pytest.raises(StoreError, match="64x64, not 32x64"):
        PngReader().read([image], out[:1, :32])
    for position in range(50, len(image) - 20, 97):
        damaged = bytearray(image)
        damaged[position] ^= 4
        with pytest.raises(StoreError, match="image 0"):
            PngReader().read([bytes(damaged)], out[:1])


def test_states_are_read_without_frames(
    tmp_path: Path, toy_episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Corpus.open(corpus(tmp_path, toy_episodes))
    monkeypatch.setattr(EpisodeStore, "frames_at", None)
    for i in (0, 7, 20):
        given = toy_episodes[i if i < 18 else i - 18]
        np.testing.assert_array_equal(data.state(i), given.state)
        np.testing.assert_array_equal(data.keypoints(i), given.keypoints)
    memory = Corpus.of(toy_episodes)
    np.testing.assert_array_equal(memory.state(4), toy_episodes[4].state)
    np.testing.assert_array_equal(memory.frames_at(4, [1, 5]), toy_episodes[4].frames[[1, 5]])


def test_frames_that_are_not_there_are_refused(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    store = EpisodeStore(write(tmp_path / "toy", toy_episodes[:1]))
    for numbers in ([12], [-1], [3, 3], [4, 2]):
        with pytest.raises(ValueError, match="rising"):
            store.frames_at(0, numbers)
    assert store.frames_at(0, []).shape == (0, 32, 32, 3)


@pytest.mark.parametrize("name", ["meta/info.json", "meta/episodes/chunk-000/file-000.parquet"])
def test_damaged_metadata_names_the_store(tmp_path: Path, toy_episodes: list[Episode], name: str) -> None:
    folder = write(tmp_path / "toy", toy_episodes[:2])
    content = (folder / name).read_bytes()
    for damaged in (b"", b"{}", content[: len(content) // 2]):
        (folder / name).write_bytes(damaged)
        with pytest.raises(StoreError, match=r"toy.*dvc repro"):
            EpisodeStore(folder)


def test_proprioception_comes_back_as_it_was(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    bare = [
        replace(e, state=None, keypoints=None, policy="unknown", proprioception=e.actions[:, :3] * 2)
        for e in toy_episodes[:3]
    ]
    store = EpisodeStore(write(tmp_path / "real", bare))
    np.testing.assert_array_equal(store.read(1).proprioception, bare[1].proprioception)
    np.testing.assert_array_equal(store.proprioception(2), bare[2].proprioception)
    with EpisodeWriter(tmp_path / "copy", fps=10) as writer:
        writer.append(store, 1)
    np.testing.assert_array_equal(EpisodeStore(tmp_path / "copy").proprioception(0), bare[1].proprioception)


def test_a_simulated_robot_measures_its_gripper(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    store = EpisodeStore(write(tmp_path / "toy", toy_episodes[:2]))
    state = toy_episodes[0].state
    assert state is not None
    np.testing.assert_array_equal(store.proprioception(0), state[:, [0, 1, 2, 9]])
    assert store.read(0).proprioception is None  # it is a part of the state


def test_a_corpus_scales_proprioception_and_says_where_it_is_unknown(toy_episodes: list[Episode]) -> None:
    arm = [replace(e, state=None, keypoints=None, proprioception=e.actions[:, :2] * 5 + 3) for e in toy_episodes[:4]]
    blind = [replace(e, source="blind", state=None, keypoints=None) for e in toy_episodes[4:8]]
    data = Corpus.of(arm + blind)
    assert data.proprioception_width == 2
    values = np.concatenate([data.proprioception(i) for i in range(4)])
    assert np.abs(values).max() <= 1
    assert values.std() > 0.1
    assert data.proprioception(5).shape == (12, 2)
    assert np.isnan(data.proprioception(5)).all()
    assert data.filter(source="blind").proprioception_width == 2
    assert Corpus.of(blind).proprioception(0).shape == (12, 0)
