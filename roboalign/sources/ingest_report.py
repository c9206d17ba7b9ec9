"""The report on a data set's episodes: kept, damaged, or left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from roboalign.io import write_json
from roboalign.sources.errors import SourceError
from roboalign.sources.readers.reader import Damaged, LeftOut, Raw
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.types import Episode, Json

QUARANTINE = "meta/quarantine.json"
"""In the finished store: what was damaged and why, and how many episodes the spec left out."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The report on a shard's episodes."""

    kept: int
    frames: int
    damaged: tuple[Damaged, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
    """By field of the spec, how many."""
    warnings: tuple[tuple[str, int], ...] = ()
    """Of those that are kept: what to know of them, and how many it applies to."""

    @property
    def lost(self) -> int:
        """Damaged episodes."""
        return sum(each.lost for each in self.damaged)


class IngestTally:
    """Counts what becomes of the episodes of a data set, for the stage and for `inspect` alike."""

    def __init__(self) -> None:
        self.kept = self.frames = 0
        self.damaged: list[Damaged] = []
        self.left_out: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()

    def add(self, raw: Raw | Damaged, result: Episode | LeftOut | Damaged) -> None:
        """Count an episode as it was read, and what `convert` made of it."""
        match result:
            case Damaged():
                self.damaged.append(result)
            case LeftOut():
                self.left_out[result.reason] += 1
            case Episode():
                self.kept, self.frames = self.kept + 1, self.frames + len(result.frames)
                if isinstance(raw, Raw):
                    self.warnings.update(set(raw.warnings))

    def report(self) -> IngestReport:
        """The counts."""
        return IngestReport(
            self.kept, self.frames, tuple(self.damaged), tuple(sorted(self.left_out.items())),
            tuple(sorted(self.warnings.items())),
        )  # fmt: skip


def add_reports(reports: Sequence[IngestReport]) -> IngestReport:
    """The sum of all."""
    left_out: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for report in reports:
        left_out.update(dict(report.left_out))
        warnings.update(dict(report.warnings))
    return IngestReport(
        sum(report.kept for report in reports),
        sum(report.frames for report in reports),
        tuple(each for report in reports for each in report.damaged),
        tuple(sorted(left_out.items())),
        tuple(sorted(warnings.items())),
    )


def quarantine_record(report: IngestReport) -> dict[str, Json]:
    """The content of the file QUARANTINE."""
    found = {"damaged": [asdict(each) for each in report.damaged], "left_out": dict(report.left_out)}
    return found | ({"warnings": dict(report.warnings)} if report.warnings else {})


def verdict(report: IngestReport, spec: DatasetSpec) -> Literal["taken", "damaged", "empty"]:
    """Whether a data set is taken: not if more is damaged than its spec tolerates, or if nothing is kept."""
    if report.lost / max(1, report.kept + report.lost) > spec.tolerance:
        return "damaged"
    return "taken" if report.kept else "empty"


def check_tolerance(report: IngestReport, spec: DatasetSpec, source: str, listed: Path) -> None:
    """Raise SourceError if nothing is kept or too much is damaged; everything damaged is listed in a file."""
    damaged = report.lost
    found = report.kept + damaged
    answer = verdict(report, spec)
    if answer == "taken":
        return
    write_json(listed, quarantine_record(report))
    examples = "".join(f"\n  {each.name}: {each.reason}" for each in report.damaged[:5])
    rest = len(report.damaged) - 5
    more = f"\n  and {rest} more, listed in {listed}" if rest > 0 else ""
    if answer == "damaged":
        raise SourceError(
            f"{damaged} of {found} episodes of {spec.uri} are damaged, more than sources.{source}.tolerance "
            f"{spec.tolerance:g} allows; repair them, or raise it{examples}{more}"
        )
    reasons = ", ".join(f"{count} left out by sources.{source}.{name}" for name, count in report.left_out)
    remedy = "change what leaves them out" if reasons else f"correct sources.{source}.uri"
    raise SourceError(f"{spec.uri} gives no episode ({reasons or 'it holds none'}); {remedy}{examples}{more}")
