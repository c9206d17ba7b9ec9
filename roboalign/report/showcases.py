"""The choice of the episodes that the report shows: by rule, so that failures are shown as well as successes."""

from collections.abc import Iterator, Mapping

from roboalign.evaluation.clips import OTHER_ACTIONS, ClipSet, true_clips
from roboalign.report.charts import Rows
from roboalign.report.clips import ClipColumn, Showcase
from roboalign.report.names import FAITHFUL, dig, number
from roboalign.store import Corpus
from roboalign.types import Json, UInt8

COLUMNS: tuple[tuple[str, str], ...] = (
    ("ground_truth", "Ground truth"),
    ("reconstruction", "Reconstruction"),
    ("supervised.ar.{}", "Supervised AR"),
    ("supervised.swr.{}", "Supervised SWR"),
    (OTHER_ACTIONS, "Supervised SWR, other actions"),
    ("aligned.swr.{}", "Aligned SWR"),
)
"""Clip sets from left to right with their headings; `{}` is the sampling. Clip sets that do not exist are left out."""

Totals = Mapping[tuple[str, str], float]
"""The total of (clip set, episode)."""


def showcase_scorer(spec: Mapping[str, Json]) -> str:
    """The scorer by whose totals episodes are chosen: faithful scores by the scorer of the strongest baseline."""
    return str(dig(spec, "evaluation", "strongest_baseline", "scorer") or "judge") + FAITHFUL


def totals(rows: Rows, scorer: str) -> dict[tuple[str, str], float]:
    """Totals by `scorer` of the first sample of each clip set and episode."""
    result: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["scorer"] == scorer:
            result.setdefault((row["model"], row["episode"]), float(row["total"]))
    return result


def choose(sources: Mapping[str, str], totals: Totals, model: str) -> list[tuple[str, str]]:
    """Choose the episodes with the highest, the median and the lowest total of `model` from each source.

    Args:
        sources: The source of each episode.
        totals: Totals by clip set and episode.
        model: The clip set.

    Returns:
        (episode, rule) pairs. Ties are ordered by name. A source with fewer than three scored episodes yields all.
    """
    chosen: list[tuple[str, str]] = []
    for source in dict.fromkeys(sources.values()):
        scored = [episode for episode, origin in sources.items() if origin == source and (model, episode) in totals]
        ranked = sorted(scored, key=lambda episode: (-totals[model, episode], episode))
        picks = {0: "highest", len(ranked) - 1: "lowest", len(ranked) // 2: "median"}
        if len(ranked) < 3:
            picks = dict(enumerate(("highest", "lowest")[: len(ranked)]))
        chosen += [(ranked[rank], picks[rank]) for rank in sorted(picks)]
    return chosen


def showcases(sets: Mapping[str, ClipSet], corpus: Corpus, rows: Rows, scorer: str) -> Iterator[Showcase]:
    """The episodes to show with their clips, chosen by the totals of the rightmost clip set.

    Args:
        sets: The clip sets by name.
        corpus: The recorded episodes.
        rows: Rows of the score table.
        scorer: The scorer whose totals choose the episodes.
    """
    sampling = "greedy" if any(one.sampling == "greedy" for one in sets.values()) else "sampled"
    columns = [(name.format(sampling), title) for name, title in COLUMNS]
    columns = [(name, title) for name, title in columns if name == "ground_truth" or name in sets]
    if len(columns) < 2:
        return
    last = sets[columns[-1][0]]
    infos = {info.id: info for info in corpus.infos}
    # In the order of the corpus, so that the episodes of a source follow one another.
    sources = {episode: infos[episode].source for episode in infos if episode in set(last.episodes)}
    scored = totals(rows, scorer)
    chosen = choose(sources, scored, last.name)
    truths = {clip.episode: clip.frames for clip in true_clips(corpus, last)} if chosen else {}
    for episode, pick in chosen:
        yield Showcase(
            episode,
            sources[episode],
            infos[episode].instruction,
            pick,
            [
                _column(name, title, episode, sets, truths[episode], scored)
                for name, title in columns
                if name == "ground_truth" or episode in sets[name].episodes
            ],
        )


def _column(
    name: str, title: str, episode: str, sets: Mapping[str, ClipSet], truth: UInt8, scored: Totals
) -> ClipColumn:
    """The column of the clip set `name`; `truth` are the recorded frames."""
    frames = truth if name == "ground_truth" else sets[name].frames(episode, 0)
    total = scored.get((name, episode))
    return ClipColumn(title, frames, "" if total is None else number(total))
