"""Clip sets are read back as they were listed, and matched to the recorded episodes that they belong to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roboalign.evaluation.clips import ClipSet, read_clip_sets, true_clips
from roboalign.io import write_json
from roboalign.store import Corpus, EpisodeWriter
from roboalign.types import Episode


def darker(episode: Episode, sample: int, frames: int) -> Episode:
    """A clip of the episode's first frames, darker by sample."""
    return Episode(
        f"{episode.id}#{sample}", episode.source, episode.task, episode.instruction, episode.policy, episode.scene,
        episode.split, episode.frames[:frames] // np.uint8(2 + sample), episode.actions[:frames],
    )  # fmt: skip


def write(folder: Path, episodes: list[Episode], samples: int = 2, frames: int = 5) -> ClipSet:
    keys = [(episode, sample) for sample in range(samples) for episode in episodes]
    with EpisodeWriter(folder / "supervised.best_of_2", fps=5) as writer:
        for episode, sample in keys:
            writer.add(darker(episode, sample, frames))
    entry = {
        "name": "supervised.best_of_2", "model": "supervised", "decoding": "ar", "sampling": "sampled",
        "folder": "supervised.best_of_2",
        "episodes": [episode.id for episode, _ in keys], "samples": [sample for _, sample in keys],
    }  # fmt: skip
    write_json(folder / "index.json", [entry])
    return read_clip_sets(folder)["supervised.best_of_2"]


def test_clips_come_back_in_order_with_their_samples(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    first, second = toy_episodes[-2:]
    clips = list(write(tmp_path, [first, second]).clips())
    assert [(clip.episode, clip.sample) for clip in clips] == [
        (first.id, 0), (second.id, 0), (first.id, 1), (second.id, 1),
    ]  # fmt: skip
    assert clips[1].instruction == second.instruction
    np.testing.assert_array_equal(clips[3].frames, second.frames[:5] // 3)
    np.testing.assert_array_equal(clips[3].actions, second.actions[:4])


def test_one_clip_is_found_by_episode_and_sample(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    first, second = toy_episodes[-2:]
    clips = write(tmp_path, [first, second])
    assert clips.best_of_n
    assert not replace(clips, name="supervised.best_of_mine.greedy").best_of_n, "a decoding's name may begin alike"
    np.testing.assert_array_equal(clips.frames(first.id, 1), first.frames[:5] // 3)
    with pytest.raises(KeyError, match="sample 2"):
        clips.frames(first.id, 2)


def test_true_clips_are_as_long_as_the_generated_ones(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    first, second = toy_episodes[-2:]
    clips = write(tmp_path, [second, first])
    truth = list(true_clips(Corpus.of(toy_episodes), clips))
    assert [clip.episode for clip in truth] == [second.id, first.id], "each episode once, in the clips' order"
    np.testing.assert_array_equal(truth[1].frames, first.frames[:5])
    with pytest.raises(ValueError, match="which is not in any source"):
        list(true_clips(Corpus.of(toy_episodes[:3]), clips))


def test_a_damaged_index_is_named(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    clips = write(tmp_path, toy_episodes[-2:])
    short = ClipSet(clips.name, "", "", "", clips.folder, clips.episodes[:-1], clips.samples[:-1])
    with pytest.raises(ValueError, match="has 4 clips, but its index lists 3"):
        list(short.clips())
    write_json(tmp_path / "index.json", [{"name": "x"}])
    with pytest.raises(ValueError, match=r"index\.json is not an index of clips"):
        read_clip_sets(tmp_path)
    write_json(tmp_path / "index.json", [])
    with pytest.raises(ValueError, match="lists no clips"):
        read_clip_sets(tmp_path)
