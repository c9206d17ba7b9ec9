"""One offline folder of everything that was measured, to be opened in a browser: `python -m stages.report`."""

import yaml

from roboalign.evaluation.clips import read_clip_sets
from roboalign.io import read_json, read_tsv, write_json, write_text
from roboalign.report.headline import summary
from roboalign.report.inputs import CardFiles, Inputs
from roboalign.report.page import render, write_page
from roboalign.report.policy_showcases import policy_showcases
from roboalign.report.provenance import FILE, provenance_script
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
    """Write report/index.html with its clips and images, report/provenance.js, which DVC ignores, and the headline
    figures to metrics/summary.json."""
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
        CardFiles.read(run.input("artifacts/bench/card")),
        list(policy_showcases(run.input("artifacts/policies"), spec["policies"])),
        scores,
    )
    page = render(inputs)
    folder = run.output("report")
    write_page(page, folder)
    write_text(folder / FILE, provenance_script(run.root))
    write_json(run.output("metrics/summary.json"), summary(inputs))
    size = len(page.html) + sum(map(len, page.files.values()))
    run.log(f"report/index.html, {size / 1e6:.1f} MB with {len(page.files)} files beside it")


if __name__ == "__main__":
    execute("report", main)
