"""`python -m roboalign study NAME`: runs the experiments of a study, then writes its results, table and plot."""

import sys
from pathlib import Path

from roboalign.evaluation.outcomes import read_outcomes
from roboalign.io import parse_json, write_json, write_text
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.library import Library
from roboalign.spec.studies import read_study
from roboalign.study.experiments import (
    StudyError,
    git,
    overrides,
    read_output,
    require_experiment,
    revisions,
    run_queued,
)
from roboalign.study.page import markdown, plot
from roboalign.study.results import RunResult, read_totals, summarise


def run(root: Path, name: str, folder: Path, *, collect: bool) -> int:
    """Run a study and write its results to `folder`; with `collect`, only write the results of finished runs. Returns
    the exit code."""
    study = read_study(Library(root), name, COMMAND_LINE)
    try:
        require_experiment(root, study.experiment)
        if not collect:
            run_queued(root, name, study)
        done = revisions(root, name, list(study.runs))
        missing = [run for run in study.runs if run not in done]
        if study.reference in missing or (missing and not collect):
            raise StudyError(f"not finished: {', '.join(missing)}; run `python -m roboalign study {name}`")
        results = {
            run: RunResult(
                commit,
                tuple(overrides(study, study.runs[run])),
                parse_json(read_output(root, commit, "metrics/evaluation.json")),
                read_totals(read_output(root, commit, "artifacts/evaluation/scores.tsv")),
                read_outcomes(read_output(root, commit, "artifacts/evaluation/outcomes.tsv")),
            )
            for run, commit in done.items()
        }
        revision = git(root, "rev-parse", "--short", "HEAD").strip()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    summary = summarise(study, results) | {
        "experiment": study.experiment, "revision": revision, "command": f"python -m roboalign study {name}",
        "not_run": list(missing),
    }  # fmt: skip
    write_json(folder / f"{name}.json", summary)
    write_text(folder / f"{name}.md", markdown(name, summary))
    write_text(folder / f"{name}.svg", plot(name, summary))
    print(f"{folder / name}.md, .json and .svg: {len(results)} runs" + (f"; missing {missing}" if missing else ""))
    return 0
