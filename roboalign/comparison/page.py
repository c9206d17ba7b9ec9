"""The comparison as a page of the report's kind: tables to sort and copy, and clips of both runs in step."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from roboalign.comparison.changes import Comparison
from roboalign.comparison.snapshot import RunSnapshot
from roboalign.evaluation.clips import read_clip_sets, true_clips
from roboalign.report.blocks import Block, Cell, Prose, Section, Table
from roboalign.report.inputs import Inputs
from roboalign.report.names import model, number, scorer, significant
from roboalign.report.page import render_sections, write_page
from roboalign.report.showcases import TOTAL, ClipColumn, Showcase, choose
from roboalign.report.tables import p_value
from roboalign.report.viewer import clip_viewer
from roboalign.store import Corpus

CLIP_SETS = ("aligned.swr.greedy", "supervised.swr.greedy", "supervised.ar.greedy")
"""The clip sets whose clips are shown, the first that both runs have."""

SCORERS = ("gold_faithful", "judge_faithful", "judge")
"""The scorers by whose difference episodes are chosen, the first that both runs have."""


def write_comparison(folder: Path, found: Comparison, snapshots: tuple[RunSnapshot, RunSnapshot]) -> None:
    """Write the page of a comparison to a folder, which is emptied first."""
    with TemporaryDirectory() as scratch:
        showcases = list(clips_of_both(snapshots, Path(scratch)))
    sections = [overview(found), *change_tables(found)]
    viewer = clip_viewer(showcases, Inputs(snapshots[1].sections(), {}, {}, {}))
    if viewer is not None:
        text = (
            "For each source, the episodes in which B gains most on A, loses most, and the one between. Numbers beside "
            "the titles are totals (means over the samples of an episode)."
        )
        sections.append(Section("clips", "Clips", [Prose([text]), viewer]))
    page = render_sections(
        "RoboAlign comparison", f"A: {found.a}. B: {found.b}.", [each for each in sections if each.blocks]
    )
    write_page(page, folder)


def overview(found: Comparison) -> Section:
    """The verdict, and what could not be compared."""
    return Section("overview", "Overview", [Prose([f"Verdict: {found.verdict}.", *found.notes])])


def change_tables(found: Comparison) -> list[Section]:
    """The tables of changed fields, code, scores and metrics."""
    fields = Table(
        f"{len(found.fields)} changed fields",
        ["Field", "Change", "Meaning", "Stages that read it"],
        [
            [Cell(each.field), Cell(each.change), Cell(each.meaning), Cell(", ".join(each.stages))]
            for each in found.fields
        ],
        wrapped=True,
    )
    code = Table("Changed code", ["Folder", "Files"], [[Cell(name), Cell(str(n))] for name, n in found.code.items()])
    scores = Table(
        "Total scores, B minus A, paired by episode",
        ["Clips", "Scorer", "Difference", "p", "Verdict"],
        [
            [
                Cell(model(each.model)),
                Cell(scorer(each.scorer)),
                Cell(
                    ("+" if each.mean > 0 else "") + number(each.mean),
                    f"{number(each.low)} to {number(each.high)} · n = {each.n}",
                ),
                Cell(p_value(each.p)),
                Cell("noise", tone="muted")
                if each.is_noise
                else Cell("more than noise", tone="good" if each.mean > 0 else "bad"),
            ]
            for each in sorted(found.scores, key=lambda each: (each.is_noise, -abs(each.mean)))
        ],
        "95 % bootstrap interval over episodes; p by Wilcoxon's signed-rank test with Holm's correction over all rows.",
    )
    metrics = Table(
        "Other metrics with intervals, not paired",
        ["Metric", "A", "B", "Margin", "Verdict"],
        [
            [
                Cell(each.metric),
                Cell(significant(each.before)),
                Cell(significant(each.after)),
                Cell(significant(each.margin)),
                Cell("noise", tone="muted") if each.is_noise else Cell("more than noise", tone="strong"),
            ]
            for each in sorted(found.metrics, key=lambda each: each.is_noise)
        ],
        "Margin: half width of the 95 % interval of the difference, as if both values were independent.",
        folded=True,
    )
    changes: list[Block] = [table for table in (fields, code) if table.rows]
    results: list[Block] = [table for table in (scores, metrics) if table.rows]
    return [Section("changes", "What was changed", changes), Section("results", "What that did", results)]


def clips_of_both(snapshots: tuple[RunSnapshot, RunSnapshot], scratch: Path) -> Iterator[Showcase]:
    """The true future and both runs' clips of the episodes in which they differ most, least, and between; none if the
    clips or the scores of a run are not at hand."""
    folders = [snapshot.folder("artifacts/rollout", scratch) for snapshot in snapshots]
    totals = [snapshot.totals() for snapshot in snapshots]
    sources, episodes = (snapshots[1].folder(path, scratch) for path in ("artifacts/sources", "artifacts/episodes"))
    a, b = totals
    if folders[0] is None or folders[1] is None or a is None or b is None or sources is None or episodes is None:
        return
    sets = [read_clip_sets(folder) for folder in folders if folder is not None]
    name = next((each for each in CLIP_SETS if each in sets[0] and each in sets[1]), None)
    judge = next((each for each in SCORERS if (name, each) in a and (name, each) in b), None)
    if name is None or judge is None:
        return
    before, after = a[name, judge], b[name, judge]
    shared = before.keys() & after.keys() & set(sets[0][name].episodes)
    corpus = Corpus.open(sources / "index.json")
    infos = {info.id: info for info in corpus.infos if info.id in shared}
    gains = {(name, episode): {TOTAL: after[episode] - before[episode]} for episode in infos}
    chosen = choose({episode: info.source for episode, info in infos.items()}, gains, name)
    truths = {clip.episode: clip.frames for clip in true_clips(corpus, sets[1][name]) if clip.episode in chosen}
    for episode, cases in chosen.items():
        yield Showcase(
            episode,
            infos[episode].source,
            infos[episode].instruction,
            cases,
            [
                ClipColumn("ground_truth", "Ground truth", truths[episode], {}),
                ClipColumn("a", f"A: {model(name)}", sets[0][name].frames(episode, 0), {TOTAL: before[episode]}),
                ClipColumn("b", f"B: {model(name)}", sets[1][name].frames(episode, 0), {TOTAL: after[episode]}),
            ],
        )
