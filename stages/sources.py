"""Index the listed sources: `python -m stages.sources`."""

from roboalign.io import write_json
from roboalign.run import Run, execute
from roboalign.sources.index import entry, metrics
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.sources.spec import SourceSpec


def main(run: Run) -> None:
    """Write `artifacts/sources/index.json`, which `Corpus.open` reads, and `metrics/sources.json`."""
    listed = run.section("sources", dict[str, SourceSpec])
    # Only what is listed: the folder may hold a source that the experiment no longer names.
    folders = {name: run.input(f"artifacts/episodes/{name}") for name in listed}
    base = run.root / "artifacts"
    found = {}
    for name, folder in folders.items():
        spec = listed[name]
        limits = spec.action_range if isinstance(spec, DatasetSpec) else ()
        found[name] = entry(folder, base, spec.action_quantile, limits)
    write_json(run.output("artifacts/sources") / "index.json", {"sources": found})
    measured = {name: metrics(folder) for name, folder in folders.items()}
    write_json(run.output("metrics/sources.json"), measured)
    for name, values in measured.items():
        run.log(f"{name}: {values['episodes']} episodes, success {values.get('success_by_policy', 'unknown')}")


if __name__ == "__main__":
    execute("sources", main)
