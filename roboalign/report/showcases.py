"""Which episodes are shown: by rule, so that failures are shown as surely as successes."""

from collections.abc import Iterator, Mapping

from roboalign.evaluation.clips import OTHER_ACTIONS, ClipSet, true_clips
from roboalign.report.charts import Rows
from roboalign.report.clips import Lane, Showcase
from roboalign.report.names import FAITHFUL, dig, number
from roboalign.store import Corpus
from roboalign.types import Json, UInt8

LANES: tuple[tuple[str, str], ...] = (
    ("ground_truth", "Ground truth"),
    ("reconstruction", "Reconstruction"),
    ("supervised.ar.{}", "Supervised AR"),
    ("supervised.swr.{}", "Supervised SWR"),
    (OTHER_ACTIONS, "Supervised SWR, other actions"),
    ("aligned.swr.{}", "Aligned SWR"),
)
"""Clip sets from left to right, and their headings; `{}` is the way of sampling. Absent sets are left out."""

Totals = Mapping[tuple[str, str], float]
"""The total of (clip set, episode)."""


def showcase_scorer(spec: Mapping[str, Json]) -> str:
    """The scores that episodes are chosen by: the faithful ones of the scorer that names the strongest baseline."""
    return str(dig(spec, "evaluation", "strongest_baseline", "scorer") or "judge") + FAITHFUL


def totals(rows: Rows, scorer: str) -> dict[tuple[str, str], float]:
    """Totals by one scorer of the first sample of every clip set and episode."""
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["scorer"] == scorer:
            found.setdefault((row["model"], row["episode"]), float(row["total"]))
    return found


def choose(sources: Mapping[str, str], totals: Totals, model: str) -> list[tuple[str, str]]:
    """(episode, rule) of each source: the highest, the median and the lowest total of `model`.

    `sources` maps episodes to sources. Of equal totals the first by name is the higher. A source with fewer than three
    scored episodes shows what it has.
    """
    chosen: list[tuple[str, str]] = []
    for source in dict.fromkeys(sources.values()):
        scored = [episode for episode, of in sources.items() if of == source and (model, episode) in totals]
        ranked = sorted(scored, key=lambda episode: (-totals[model, episode], episode))
        picks = {0: "highest", len(ranked) - 1: "lowest", len(ranked) // 2: "median"}
        if len(ranked) < 3:
            picks = dict(enumerate(("highest", "lowest")[: len(ranked)]))
        chosen += [(ranked[rank], picks[rank]) for rank in sorted(picks)]
    return chosen


def showcases(sets: Mapping[str, ClipSet], corpus: Corpus, rows: Rows, scorer: str) -> Iterator[Showcase]:
    """The episodes to show, with their clips; those chosen by the rightmost clip set."""
    sampling = "greedy" if any(one.sampling == "greedy" for one in sets.values()) else "sampled"
    lanes = [(name.format(sampling), title) for name, title in LANES]
    lanes = [(name, title) for name, title in lanes if name == "ground_truth" or name in sets]
    if len(lanes) < 2:
        return
    last = sets[lanes[-1][0]]
    infos = {info.id: info for info in corpus.infos}
    # In the order of the corpus, so that sources stand together.
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
                _lane(name, title, episode, sets, truths[episode], scored)
                for name, title in lanes
                if name == "ground_truth" or episode in sets[name].episodes
            ],
        )


def _lane(name: str, title: str, episode: str, sets: Mapping[str, ClipSet], truth: UInt8, scored: Totals) -> Lane:
    frames = truth if name == "ground_truth" else sets[name].frames(episode, 0)
    total = scored.get((name, episode))
    return Lane(title, frames, "" if total is None else number(total))
