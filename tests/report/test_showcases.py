"""Which episodes are shown: by rule, failures as surely as successes."""

from pathlib import Path

import numpy as np

from roboalign.evaluation.clips import OTHER_ACTIONS, read_clip_sets
from roboalign.io import write_json
from roboalign.report.showcases import choose, scores_by, showcases
from roboalign.store import Corpus, EpisodeWriter
from roboalign.types import Episode

MODEL = "aligned.swr.greedy"


def scored(totals: dict[str, float]) -> dict[tuple[str, str], dict[str, float]]:
    return {(MODEL, episode): {"total": total} for episode, total in totals.items()}


def test_best_median_and_worst_of_each_source() -> None:
    totals = {"a/0": 3.0, "a/1": 1.0, "a/2": 5.0, "a/3": 2.0, "a/4": 4.0, "b/0": 7.0, "b/1": 8.0, "c/0": 9.0}
    sources = {episode: episode[0] for episode in totals}
    assert choose(sources, scored(totals), MODEL) == {
        "a/2": {"total": "best"}, "a/0": {"total": "median"}, "a/1": {"total": "worst"},
        "b/1": {"total": "best"}, "b/0": {"total": "worst"}, "c/0": {"total": "best"},
    }  # fmt: skip


def test_each_dimension_has_its_own_cases_and_the_total_comes_first() -> None:
    values = {"a/0": (1.0, 9.0), "a/1": (2.0, 8.0), "a/2": (3.0, 7.0), "a/3": (0.5, 8.5)}
    scores = {(MODEL, episode): {"contact": c, "total": t} for episode, (c, t) in values.items()}
    chosen = choose(dict.fromkeys(values, "a"), scores, MODEL)
    assert list(chosen)[:3] == ["a/0", "a/1", "a/2"]
    assert chosen["a/2"] == {"total": "worst", "contact": "best"}
    assert chosen["a/3"] == {"contact": "worst"}


def test_equal_totals_and_unscored_episodes() -> None:
    sources = dict.fromkeys(("a/1", "a/0", "a/2", "a/3"), "a")
    chosen = choose(sources, scored({"a/0": 1.0, "a/1": 1.0, "a/2": 1.0}), MODEL)
    assert [(episode, cases["total"]) for episode, cases in chosen.items()] == [
        ("a/0", "best"), ("a/1", "median"), ("a/2", "worst"),
    ]  # fmt: skip
    assert choose(sources, {}, MODEL) == {}


def test_scores_are_of_one_scorer_and_the_first_sample() -> None:
    rows = [
        {"model": "m", "scorer": scorer, "episode": "e", "sample": sample, "contact": "", "total": total}
        for scorer, sample, total in (("student", "0", "9"), ("judge", "0", "4"), ("judge", "1", "5"))
    ]
    assert scores_by(rows, "judge") == {("m", "e"): {"total": 4.0}}


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
    assert [(one.episode, one.cases["total"]) for one in shown] == [
        (tests[2].id, "best"), (tests[1].id, "median"), (tests[0].id, "worst"),
    ]  # fmt: skip
    truth, reconstruction, aligned = shown[0].columns
    np.testing.assert_array_equal(truth.frames, tests[2].frames[:4])
    assert (reconstruction.frames == 40).all()
    assert (aligned.title, aligned.scores, reconstruction.scores) == ("Aligned SWR", {"total": 2.0}, {})


def test_episodes_that_lack_a_model_are_not_chosen_if_others_have_all(
    tmp_path: Path, toy_episodes: list[Episode]
) -> None:
    tests = [episode for episode in toy_episodes if episode.split == "test"]
    index = []
    for name, episodes in (("supervised.ar.greedy", tests[:1]), (MODEL, tests)):
        with EpisodeWriter(tmp_path / name, fps=5) as writer:
            for episode in episodes:
                writer.add(episode)
        ids = [episode.id for episode in episodes]
        parts = dict(zip(("model", "decoding", "sampling"), name.split("."), strict=True))
        index.append({"name": name, "folder": name, "episodes": ids, "samples": [0] * len(ids), **parts})
    write_json(tmp_path / "index.json", index)
    rows = [{"model": MODEL, "scorer": "judge", "episode": e.id, "sample": "0", "total": "1"} for e in tests]
    shown = list(showcases(read_clip_sets(tmp_path), Corpus.of(toy_episodes), rows, "judge"))
    assert [one.episode for one in shown] == [tests[0].id]


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
