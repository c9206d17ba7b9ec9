"""One offline HTML page of everything that was measured: `python -m stages.report`."""

import shutil

import yaml

from roboalign.evaluation.clips import read_clip_sets
from roboalign.io import read_json, read_tsv, write_text
from roboalign.report.inputs import CardFiles, Inputs
from roboalign.report.page import render
from roboalign.report.policy_showcases import policy_showcases
from roboalign.report.showcases import showcase_scorer, showcases
from roboalign.run import Run, execute
from roboalign.store import Corpus, EpisodeStore

PROBES = ("probe/judge", "probe/gold", "probe/held_out")
METRICS = (
    "sources", "tokenizer", "world_model", *PROBES, "bench", "judge", "held_out", "student", "rl", "policies",
    "rollout", "drift", "evaluation",
)  # fmt: skip
CURVES = (
    "tokenizer", "world_model", *PROBES, "judge", "held_out", "student", "rl", "rl_checks", "rollout", "drift",
)  # fmt: skip


def main(run: Run) -> None:
    """Write report/index.html."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(run.input("build/spec").glob("*.yaml"))}
    spec = {name: yaml.safe_load(text)[name] for name, text in texts.items()}
    sets = read_clip_sets(run.input("artifacts/rollout"))
    corpus = Corpus.open(run.input("artifacts/sources/index.json")).filter(split="test")
    scores = read_tsv(run.input("artifacts/evaluation/scores.tsv"))
    inputs = Inputs(
        spec,
        texts,
        {name: read_json(run.input(f"metrics/{name}.json")) for name in METRICS},
        {name: read_tsv(run.input(f"plots/{name}.tsv")) for name in CURVES},
        list(showcases(sets, corpus, scores, showcase_scorer(spec))),
        EpisodeStore(next(iter(sets.values())).folder).fps,
        card=CardFiles.read(run.input("artifacts/bench/card")),
        policy_showcases=list(policy_showcases(run.input("artifacts/policies"), spec["policies"])),
    )
    page = render(inputs)
    folder = run.output("report")
    # DVC empties the folder before a run; a run by hand must not leave an older page's files either.
    shutil.rmtree(folder, ignore_errors=True)
    write_text(folder / "index.html", page)
    run.log(f"report/index.html, {len(page) / 1e6:.1f} MB, {len(inputs.showcases)} episodes shown")


if __name__ == "__main__":
    execute("report", main)
