"""Index the listed sources: `python -m stages.sources`."""

from roboalign.io import write_json
from roboalign.run import Run, execute
from roboalign.sources.index import entry, metrics
from roboalign.sources.spec import SourceSpec


def main(run: Run) -> None:
    """Write `artifacts/sources/index.json`, which `Corpus.open` reads, and `metrics/sources.json`."""
    listed = run.section("sources", dict[str, SourceSpec])
    # Only what is listed: the folder may hold a source that the experiment no longer names.
    folders = {name: run.input(f"artifacts/episodes/{name}") for name in listed}
    base = run.root / "artifacts"
    index = {"sources": {name: entry(folder, base, listed[name].action_quantile) for name, folder in folders.items()}}
    write_json(run.output("artifacts/sources") / "index.json", index)
    measured = {name: metrics(folder) for name, folder in folders.items()}
    write_json(run.output("metrics/sources.json"), measured)
    for name, values in measured.items():
        run.say(f"{name}: {values['episodes']} episodes, success {values.get('success_by_policy', 'unknown')}")


if __name__ == "__main__":
    execute("sources", main)
