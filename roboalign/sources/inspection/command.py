"""`python -m roboalign inspect`: from a source to what is printed and drawn."""

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
"""Episodes of a data set or store that are looked at, unless more are asked for."""
RECORDED = 4
"""Episodes of a simulated robot that are recorded to look at."""


Options = Mapping[str, bool | int | str]
LIBRARIES = ("aiohttp", "botocore", "gcsfs", "google", "httpx", "huggingface_hub", "requests", "s3fs")
"""Whose errors mean that a place cannot be reached."""


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of the command."""

    target: str
    """A spec's name, or the URI of a data set or store."""
    episodes: int | None
    """How many to look at; 0 all, None as many as are read in seconds."""
    as_json: bool
    sheet: Path | None
    options: Options
    cache: Path
    overrides: tuple[str, ...] = ()
    """Values that the current experiment sets over the spec's file, each with its file and line."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """A source that was inspected."""

    preview: SourcePreview
    summary: Summary
    spec: DatasetSpec | None = None
    """Of a data set."""

    def text(self, as_json: bool) -> str:
        """For the terminal, or as JSON."""
        if as_json:
            return json.dumps(round_floats(asdict(self.summary)), indent=2, ensure_ascii=False) + "\n"
        return render_summary(self.summary)

    def draw(self, path: Path) -> None:
        """Write the contact sheet. Raises SourceError if there is nothing to draw."""
        save(self.preview, self.summary, path)

    @property
    def is_usable(self) -> bool:
        """Whether the stage would read it, as far as can be said of what was looked at."""
        report = self.preview.report
        answer = "taken" if report is None or self.spec is None else verdict(report, self.spec)
        # Of a part of the episodes all may be left out by chance.
        return answer == "taken" or (answer == "empty" and not self.preview.complete and bool(self.summary.lengths))


def inspect_spec(
    spec: SimulatedRobotSpec | RecordedSpec,
    source: str,
    episodes: int | None,
    cache: Path,
    overrides: tuple[str, ...] = (),
) -> Inspection:
    """Inspect what a spec describes. Raises SourceError."""
    if isinstance(spec, SimulatedSpec):
        preview = preview_simulator(spec, source, RECORDED if episodes is None else episodes)
        about = SourceDescription(source, spec.kind, "recorded by a simulator", overrides=overrides)
        return make_inspection(preview, about, None)
    preview = preview_data_set(spec, source, EPISODES if episodes is None else episodes, cache)
    tile = spec.tiles[0]
    about = SourceDescription(
        source, spec.kind, spec.uri, spec.stride, (tile.height, tile.width), spec.image.fit, spec.action_quantile,
        label_dimensions(spec, preview), overrides, len(spec.cameras),
    )  # fmt: skip
    return make_inspection(preview, about, spec)


def inspect_store(store: EpisodeStore, episodes: int | None) -> Inspection:
    """Inspect an episode store. Raises StoreError."""
    preview = preview_store(store, EPISODES if episodes is None else episodes)
    return make_inspection(preview, SourceDescription(store.folder.name, "episode store", str(store.folder)), None)


def make_inspection(preview: SourcePreview, about: SourceDescription, spec: DatasetSpec | None) -> Inspection:
    """Figures and problems."""
    summary = summarise(preview, about, spec)
    return Inspection(preview, replace(summary, problems=tuple(problems(summary, spec))), spec)


def run(request: Request, spec: SimulatedRobotSpec | RecordedSpec | None) -> int:
    """Inspect what a spec describes, or what lies at the target; the exit code."""
    return report_errors(request.target, lambda: of_place(request) if spec is None else of_spec(request, spec))


def report_errors(target: str, command: Callable[[], int]) -> int:
    """The exit code of a command; 1 if the data set at `target` cannot be read, which is printed."""
    try:
        return command()
    except (SourceError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in LIBRARIES:
            raise
        print(f"error: {target} cannot be read: {error or type(error).__name__}", file=sys.stderr)
    return 1


def of_spec(request: Request, spec: SimulatedRobotSpec | RecordedSpec) -> int:
    """Inspect what a spec describes."""
    if isinstance(spec, DatasetSpec):
        spec = spec.model_copy(update={"options": {**spec.options, **request.options}})
    return show_inspection(
        inspect_spec(spec, request.target, request.episodes, request.cache, request.overrides), request
    )


def show_inspection(found: Inspection, request: Request) -> int:
    """Print and draw."""
    print(found.text(request.as_json), end="")
    if request.sheet is not None:
        found.draw(request.sheet)
        print(f"contact sheet: {request.sheet}", file=sys.stderr)
    return 0 if found.is_usable else 1


def of_place(request: Request) -> int:
    """Inspect a store, or propose a spec for a data set."""
    folder = Path(request.target)
    if (folder / "meta/info.json").is_file():
        try:
            store: EpisodeStore | None = EpisodeStore(folder)
        except StoreError:  # a LeRobotDataset that is none of ours
            store = None
        if store is not None:
            return show_inspection(inspect_store(store, request.episodes), request)
    proposal = propose(request.target, request.options, request.cache)
    print(json.dumps(proposal.document(), indent=2, ensure_ascii=False) if request.as_json else proposal.text())
    for name, there in proposal.missing.items():
        found_in = f"{request.target}: {proposal.layout.what}; but no {name} was found in it"
        print(f"error: {found_in} (candidates: {there}); fill in the line marked MISSING", file=sys.stderr)
    if proposal.spec is None:
        print("error: no episode could be read with this spec; correct it", file=sys.stderr)
        return 1
    if request.sheet is not None:
        found = inspect_spec(proposal.spec, folder.name or request.target, request.episodes, request.cache)
        found.draw(request.sheet)
        print(f"contact sheet: {request.sheet}", file=sys.stderr)
    print("Save this as specs/sources/NAME.yaml, then run: python -m roboalign inspect NAME", file=sys.stderr)
    return 1 if proposal.missing else 0
