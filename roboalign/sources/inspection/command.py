"""`python -m roboalign inspect`: inspects a source, prints the summary and writes the contact sheet."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from roboalign.io import round_floats
from roboalign.sources.errors import SourceError
from roboalign.sources.ingest_report import verdict
from roboalign.sources.inspection.preview import SourcePreview, preview_data_set, preview_simulator, preview_store
from roboalign.sources.inspection.problems import problems
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.inspection.sheet import save
from roboalign.sources.inspection.summary import SourceDescription, Summary, label_dimensions, summarise
from roboalign.sources.inspection.text import render_summary
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.sources.simulators.spec import SimulatedSpec
from roboalign.sources.spec import RecordedSpec, SimulatedRobotSpec
from roboalign.store import EpisodeStore, StoreError

EPISODES = 20
"""Number of episodes of a data set or store that are inspected by default."""
RECORDED = 4
"""Number of episodes of a simulated robot that are recorded for the inspection by default."""


Options = Mapping[str, bool | int | str]
LIBRARIES = ("aiohttp", "botocore", "gcsfs", "google", "httpx", "huggingface_hub", "requests", "s3fs")
"""Packages whose errors mean that a URI cannot be read."""


@dataclass(frozen=True, slots=True)
class Request:
    """Arguments of the command."""

    target: str
    """Name of a source spec, or URI of a data set or store."""
    episodes: int | None
    """Number of episodes to inspect; 0 for all, None for the default."""
    as_json: bool
    sheet: Path | None
    options: Options
    cache: Path
    overrides: tuple[str, ...] = ()
    """Values that the current experiment sets in place of those of the source's file, each with its file and line."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Result of an inspection."""

    preview: SourcePreview
    summary: Summary
    spec: DatasetSpec | None = None
    """Spec of the data set; None for simulators and stores."""

    def text(self, as_json: bool) -> str:
        """Return the summary as text for the terminal, or as JSON."""
        if as_json:
            return json.dumps(round_floats(asdict(self.summary)), indent=2, ensure_ascii=False) + "\n"
        return render_summary(self.summary)

    def draw(self, path: Path) -> None:
        """Write the contact sheet. Raises SourceError if there is nothing to draw."""
        save(self.preview, self.summary, path)

    @property
    def is_usable(self) -> bool:
        """Whether the stage `episodes` would accept the source, as far as the inspected episodes show."""
        report = self.preview.report
        outcome = "taken" if report is None or self.spec is None else verdict(report, self.spec)
        # All episodes of a sample may be left out by chance.
        return outcome == "taken" or (outcome == "empty" and not self.preview.complete and bool(self.summary.lengths))


def inspect_spec(
    spec: SimulatedRobotSpec | RecordedSpec,
    source: str,
    episodes: int | None,
    cache: Path,
    overrides: tuple[str, ...] = (),
) -> Inspection:
    """Inspect the source that a spec describes. Raises SourceError if it cannot be read."""
    if isinstance(spec, SimulatedSpec):
        preview = preview_simulator(spec, source, RECORDED if episodes is None else episodes)
        description = SourceDescription(source, spec.kind, "recorded by a simulator", overrides=overrides)
        return make_inspection(preview, description, None)
    preview = preview_data_set(spec, source, EPISODES if episodes is None else episodes, cache)
    tile = spec.tiles[0]
    description = SourceDescription(
        source, spec.kind, spec.uri, spec.stride, (tile.height, tile.width), spec.image.fit, spec.action_quantile,
        label_dimensions(spec, preview), overrides, len(spec.cameras),
    )  # fmt: skip
    return make_inspection(preview, description, spec)


def inspect_store(store: EpisodeStore, episodes: int | None) -> Inspection:
    """Inspect an episode store. Raises StoreError if it cannot be read."""
    preview = preview_store(store, EPISODES if episodes is None else episodes)
    return make_inspection(preview, SourceDescription(store.folder.name, "episode store", str(store.folder)), None)


def make_inspection(preview: SourcePreview, description: SourceDescription, spec: DatasetSpec | None) -> Inspection:
    """Return the inspection of a preview: its summary, with the problems."""
    summary = summarise(preview, description, spec)
    return Inspection(preview, replace(summary, problems=tuple(problems(summary, spec))), spec)


def run(request: Request, spec: SimulatedRobotSpec | RecordedSpec | None) -> int:
    """Run the command for a spec, or for the store or data set at the target. Returns the exit code."""
    return report_errors(request.target, lambda: run_on_uri(request) if spec is None else run_on_spec(request, spec))


def report_errors(target: str, command: Callable[[], int]) -> int:
    """Run a command and return its exit code; if the data set at `target` cannot be read, print the error and return
    1."""
    try:
        return command()
    except (SourceError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in LIBRARIES:
            raise
        print(f"error: {target} cannot be read: {error or type(error).__name__}", file=sys.stderr)
    return 1


def run_on_spec(request: Request, spec: SimulatedRobotSpec | RecordedSpec) -> int:
    """Inspect the source of a spec. Returns the exit code."""
    if isinstance(spec, DatasetSpec):
        spec = spec.model_copy(update={"options": {**spec.options, **request.options}})
    return show_inspection(
        inspect_spec(spec, request.target, request.episodes, request.cache, request.overrides), request
    )


def show_inspection(inspection: Inspection, request: Request) -> int:
    """Print the summary and write the contact sheet if requested. Returns the exit code."""
    print(inspection.text(request.as_json), end="")
    if request.sheet is not None:
        inspection.draw(request.sheet)
        print(f"contact sheet: {request.sheet}", file=sys.stderr)
    return 0 if inspection.is_usable else 1


def run_on_uri(request: Request) -> int:
    """Inspect the store at the target, or propose a spec for the data set there. Returns the exit code."""
    folder = Path(request.target)
    if (folder / "meta/info.json").is_file():
        try:
            store: EpisodeStore | None = EpisodeStore(folder)
        except StoreError:  # a LeRobotDataset that is not an episode store
            store = None
        if store is not None:
            return show_inspection(inspect_store(store, request.episodes), request)
    proposal = propose(request.target, request.options, request.cache)
    print(json.dumps(proposal.document(), indent=2, ensure_ascii=False) if request.as_json else proposal.text())
    for name, candidates in proposal.missing.items():
        format_name = f"{request.target}: {proposal.layout.what}"
        print(
            f"error: {format_name}, but no {name} was found (candidates: {candidates}); "
            "fill in the line marked MISSING",
            file=sys.stderr,
        )
    if proposal.spec is None:
        print("error: no episode could be read with this spec; correct it", file=sys.stderr)
        return 1
    if request.sheet is not None:
        inspection = inspect_spec(proposal.spec, folder.name or request.target, request.episodes, request.cache)
        inspection.draw(request.sheet)
        print(f"contact sheet: {request.sheet}", file=sys.stderr)
    print("Save this as specs/sources/NAME.yaml, then run: python -m roboalign inspect NAME", file=sys.stderr)
    return 1 if proposal.missing else 0
