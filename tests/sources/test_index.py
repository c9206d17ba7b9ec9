from dataclasses import replace
from pathlib import Path

import pytest

from roboalign.io import write_json
from roboalign.sources.errors import SourceError
from roboalign.sources.index import entry, metrics
from roboalign.store import Corpus, EpisodeWriter
from roboalign.types import Episode


def write(folder: Path, episodes: list[Episode]) -> Path:
    with EpisodeWriter(folder, fps=10) as writer:
        for episode in episodes:
            writer.add(episode)
    return folder


def test_a_corpus_opens_what_the_index_lists(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "episodes/toy", toy_episodes)
    listed = entry(folder, tmp_path)
    assert listed["folder"] == "episodes/toy"
    assert listed["splits"] == {"train": 12, "validation": 3, "test": 3}
    write_json(tmp_path / "sources/index.json", {"sources": {"toy": listed}})
    data = Corpus.open(tmp_path / "sources/index.json")
    assert len(data) == 18
    assert data.ranges["toy"].low == pytest.approx(Corpus.of(toy_episodes).ranges["toy"].low, abs=1e-5)


def test_a_spec_may_state_the_limits_of_the_actions(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    listed = entry(write(tmp_path / "toy", toy_episodes), tmp_path, limits=[(-2.0, 2.0)] * 3 + [(0.0, 4.0)])
    assert listed["action_low"] == [-2.0, -2.0, -2.0, 0.0]
    assert listed["action_high"] == [2.0, 2.0, 2.0, 4.0]


def test_the_hash_follows_the_content(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    first = entry(write(tmp_path / "a/toy", toy_episodes), tmp_path)["content"]
    assert entry(write(tmp_path / "b/toy", toy_episodes), tmp_path)["content"] == first
    assert entry(write(tmp_path / "c/toy", toy_episodes[::-1]), tmp_path)["content"] != first


def test_a_scene_in_two_splits_is_refused(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    leak = replace(toy_episodes[-1], scene=toy_episodes[0].scene)
    with pytest.raises(SourceError, match=r"scene toy/0 .*train and test"):
        entry(write(tmp_path / "toy", [*toy_episodes[:-1], leak]), tmp_path)


def test_a_source_without_training_episodes_is_refused(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    with pytest.raises(SourceError, match="train split"):
        entry(write(tmp_path / "toy", toy_episodes[-3:]), tmp_path)


def test_success_is_counted_by_policy_and_task(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    measured = metrics(write(tmp_path / "toy", toy_episodes))
    experts = [e.success for e in toy_episodes if e.policy == "expert"]
    assert measured["episodes_by_policy"] == {"expert": 6, "random": 12}
    assert measured["success_by_policy"]["expert"] == pytest.approx(sum(map(bool, experts)) / 6)
    assert measured["success_by_task"].keys() == {"push"}
    assert (measured["episodes"], measured["frames"]) == (18, 18 * 12)


def test_a_source_without_state_has_no_success(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    bare = [replace(e, state=None, keypoints=None) for e in toy_episodes]
    assert metrics(write(tmp_path / "real", bare)).keys() == {"episodes", "frames"}


def test_the_range_of_the_proprioception_is_listed(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    folder = write(tmp_path / "episodes/toy", toy_episodes)
    write_json(tmp_path / "sources/index.json", {"sources": {"toy": entry(folder, tmp_path)}})
    data = Corpus.open(tmp_path / "sources/index.json")
    assert data.proprioception(3).tolist() == pytest.approx(Corpus.of(toy_episodes).proprioception(3).tolist())
    bare = write(tmp_path / "bare", [replace(e, state=None, keypoints=None) for e in toy_episodes])
    assert "proprioception_low" not in entry(bare, tmp_path)
