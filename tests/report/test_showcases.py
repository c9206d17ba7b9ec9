"""Which episodes are shown: by rule, failures as surely as successes."""

from pathlib import Path

import numpy as np

from roboalign.evaluation.clips import OTHER_ACTIONS, read_clip_sets
from roboalign.io import write_json
from roboalign.report.showcases import choose, showcases, totals
from roboalign.store import Corpus, EpisodeWriter
from roboalign.types import Episode

MODEL = "aligned.swr.greedy"


def test_highest_median_and_lowest_of_each_source() -> None:
    sources = {f"a/{n}": "a" for n in range(5)} | {"b/0": "b", "b/1": "b", "c/0": "c"}
    scores = {(MODEL, episode): float(value) for episode, value in zip(sources, [3, 1, 5, 2, 4, 7, 8, 9], strict=True)}
    assert choose(sources, scores, MODEL) == [
        ("a/2", "highest"), ("a/0", "median"), ("a/1", "lowest"), ("b/1", "highest"), ("b/0", "lowest"),
        ("c/0", "highest"),
    ]  # fmt: skip


def test_equal_totals_and_unscored_episodes() -> None:
    sources = {"a/1": "a", "a/0": "a", "a/2": "a", "a/3": "a"}
    scores = {(MODEL, episode): 1.0 for episode in ("a/0", "a/1", "a/2")}
    assert choose(sources, scores, MODEL) == [("a/0", "highest"), ("a/1", "median"), ("a/2", "lowest")]
    assert choose(sources, {}, MODEL) == []


def test_totals_are_of_one_scorer_and_the_first_sample() -> None:
    rows = [
        {"model": "m", "scorer": scorer, "episode": "e", "sample": sample, "total": total}
        for scorer, sample, total in (("student", "0", "9"), ("judge", "0", "4"), ("judge", "1", "5"))
    ]
    assert totals(rows, "judge") == {("m", "e"): 4.0}


def test_lanes_are_the_clips_that_exist_with_their_scores(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    tests = [episode for episode in toy_episodes if episode.split == "test"]
    index = []
    for level, name in enumerate(("reconstruction", MODEL), 1):
        with EpisodeWriter(tmp_path / name, fps=5) as writer:
            for e in tests:
                frames = np.full_like(e.frames[:4], 40 * level)
                writer.add(
                    Episode(e.id, e.source, e.task, e.instruction, e.policy, e.scene, e.split, frames, e.actions[:4])
                )
        parts = dict(zip(("model", "decoding", "sampling"), (*name.split("."), "", "")[:3], strict=True))
        ids = [episode.id for episode in tests]
        index.append({"name": name, "folder": name, "episodes": ids, "samples": [0] * len(ids), **parts})
    write_json(tmp_path / "index.json", index)
    rows = [
        {"model": MODEL, "scorer": "judge", "episode": episode.id, "sample": "0", "total": str(number)}
        for number, episode in enumerate(tests)
    ]
    shown = list(showcases(read_clip_sets(tmp_path), Corpus.of(toy_episodes), rows, "judge"))
    assert [(one.episode, one.pick) for one in shown] == [
        (tests[2].id, "highest"), (tests[1].id, "median"), (tests[0].id, "lowest"),
    ]  # fmt: skip
    truth, reconstruction, aligned = shown[0].columns
    np.testing.assert_array_equal(truth.frames, tests[2].frames[:4])
    assert (reconstruction.frames == 40).all()
    assert (aligned.title, aligned.score, reconstruction.score) == ("Aligned SWR", "2.00", "")


def test_other_actions_are_shown_where_there_are_any_and_never_scored(
    tmp_path: Path, toy_episodes: list[Episode]
) -> None:
    tests = [episode for episode in toy_episodes if episode.split == "test"]
    index = []
    for name, episodes in ((OTHER_ACTIONS, tests[:1]), (MODEL, tests)):
        with EpisodeWriter(tmp_path / name, fps=5) as writer:
            for episode in episodes:
                writer.add(episode)
        ids = [episode.id for episode in episodes]
        parts = {"model": "aligned", "decoding": "swr", "sampling": "greedy", "samples": [0] * len(ids)}
        index.append({"name": name, "folder": name, "episodes": ids} | parts)
    write_json(tmp_path / "index.json", index)
    sets = read_clip_sets(tmp_path)
    assert [one.is_scorable for one in sets.values()] == [False, True]
    rows = [{"model": MODEL, "scorer": "judge", "episode": e.id, "sample": "0", "total": "1"} for e in tests]
    lanes = {one.episode: len(one.columns) for one in showcases(sets, Corpus.of(toy_episodes), rows, "judge")}
    assert lanes == {tests[0].id: 3, tests[1].id: 2, tests[2].id: 2}
