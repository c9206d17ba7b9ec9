"""The choice of the episodes that the report shows: by rule, so that failures are shown as well as successes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from roboalign.evaluation.clips import OTHER_ACTIONS, ClipSet, true_clips
from roboalign.report.charts import Rows
from roboalign.report.names import FAITHFUL, dig
from roboalign.store import Corpus
from roboalign.types import Json, UInt8

COLUMNS: tuple[tuple[str, str], ...] = (
    ("ground_truth", "Ground truth"),
    ("reconstruction", "Reconstruction"),
    ("supervised.ar.{}", "Supervised AR"),
    ("supervised.swr.{}", "Supervised SWR"),
    (OTHER_ACTIONS, "Supervised SWR, other actions"),
    ("aligned.ar.{}", "Aligned AR"),
    ("aligned.swr.{}", "Aligned SWR"),
)
"""Clip sets from left to right with their headings; `{}` is the sampling. Clip sets that do not exist are left out."""

OPTIONAL = ("reconstruction", OTHER_ACTIONS)
"""Clip sets that an episode may lack; episodes without one of the others are not chosen if any episode has all."""

CASES = ("best", "median", "worst")
TOTAL = "total"

Scores = Mapping[tuple[str, str], Mapping[str, float]]
"""Scores by dimension, and their total, of (clip set, episode)."""


@dataclass(frozen=True)
class ClipColumn:
    """One model's clip of an episode: the clip set, its heading, frames (T, H, W, 3), and scores by dimension and
    TOTAL, empty if the clip was not scored."""

    name: str
    title: str
    frames: UInt8
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Showcase:
    """One episode under several models."""

    episode: str
    source: str
    instruction: str
    cases: Mapping[str, str]
    """The rule by which the episode was chosen in each dimension (or TOTAL): one of CASES."""
    columns: Sequence[ClipColumn]


def showcase_scorer(spec: Mapping[str, Json]) -> str:
    """The scorer by whose scores episodes are chosen: faithful scores by the scorer of the strongest baseline."""
    return str(dig(spec, "evaluation", "strongest_baseline", "scorer") or "judge") + FAITHFUL


def scores_by(rows: Rows, scorer: str) -> dict[tuple[str, str], dict[str, float]]:
    """Scores by `scorer` of the first sample of each clip set and episode."""
    keys = ("model", "scorer", "episode", "sample")
    result: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["scorer"] == scorer and (row["model"], row["episode"]) not in result:
            values = {name: float(value) for name, value in row.items() if name not in keys and value}
            result[row["model"], row["episode"]] = values
    return result


def choose(sources: Mapping[str, str], scores: Scores, model: str) -> dict[str, dict[str, str]]:
    """Choose the episodes with the best, the median and the worst score of `model` in each dimension and source.

    Args:
        sources: The source of each episode.
        scores: Scores by clip set and episode.
        model: The clip set.

    Returns:
        {episode: {dimension: case}}, those by total first. Ties are ordered by name. A source with fewer than three
        scored episodes yields all of them.
    """
    scored = [episode for episode in sources if (model, episode) in scores]
    dimensions = list(dict.fromkeys([TOTAL, *(name for episode in scored for name in scores[model, episode])]))
    chosen: dict[str, dict[str, str]] = {}
    for dimension in dimensions:
        for source in dict.fromkeys(sources.values()):
            members = [e for e in scored if sources[e] == source and dimension in scores[model, e]]
            ranked = sorted(members, key=lambda episode: (-scores[model, episode][dimension], episode))
            picks = {0: "best", len(ranked) - 1: "worst", len(ranked) // 2: "median"}
            if len(ranked) < 3:
                picks = dict(enumerate(("best", "worst")[: len(ranked)]))
            for rank in sorted(picks):
                chosen.setdefault(ranked[rank], {})[dimension] = picks[rank]
    return chosen


def showcases(sets: Mapping[str, ClipSet], corpus: Corpus, rows: Rows, scorer: str) -> Iterator[Showcase]:
    """The episodes to show with their clips, chosen by the scores of the rightmost clip set.

    Args:
        sets: The clip sets by name.
        corpus: The recorded episodes.
        rows: Rows of the score table.
        scorer: The scorer whose scores choose the episodes.
    """
    sampling = "greedy" if any(one.sampling == "greedy" for one in sets.values()) else "sampled"
    columns = [(name.format(sampling), title) for name, title in COLUMNS]
    columns = [(name, title) for name, title in columns if name == "ground_truth" or name in sets]
    if len(columns) < 2:
        return
    last = sets[columns[-1][0]]
    wanted = [sets[name] for name, _ in columns if name in sets and name not in OPTIONAL]
    complete = set(last.episodes).intersection(*(one.episodes for one in wanted)) or set(last.episodes)
    infos = {info.id: info for info in corpus.infos}
    # In the order of the corpus, so that the episodes of a source follow one another.
    sources = {episode: infos[episode].source for episode in infos if episode in complete}
    scored = scores_by(rows, scorer)
    chosen = choose(sources, scored, last.name)
    truths = {clip.episode: clip.frames for clip in true_clips(corpus, last)} if chosen else {}
    for episode, cases in chosen.items():
        yield Showcase(
            episode,
            sources[episode],
            infos[episode].instruction,
            cases,
            [
                ClipColumn(
                    name,
                    title,
                    truths[episode] if name == "ground_truth" else sets[name].frames(episode, 0),
                    scored.get((name, episode), {}),
                )
                for name, title in columns
                if name == "ground_truth" or episode in sets[name].episodes
            ],
        )
