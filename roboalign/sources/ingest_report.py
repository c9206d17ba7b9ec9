"""Reports on the episodes of a data set: how many were kept, damaged, or left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from roboalign.io import write_json
from roboalign.sources.errors import SourceError
from roboalign.sources.readers.reader import Damaged, LeftOut, RawEpisode
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.types import Episode, Json

QUARANTINE = "meta/quarantine.json"
"""File in the finished store that lists damaged episodes with reasons, and counts the episodes that the spec left
out."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of the episodes of a shard or of a whole source."""

    kept: int
    frames: int
    damaged: tuple[Damaged, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
    """(field of the spec, number of episodes that it left out)."""
    warnings: tuple[tuple[str, int], ...] = ()
    """(warning, number of kept episodes that it applies to)."""

    @property
    def lost(self) -> int:
        """Number of damaged episodes."""
        return sum(each.lost for each in self.damaged)


class IngestTally:
    """Counts kept, damaged and left-out episodes of a data set, for the stage and for `inspect`."""

    def __init__(self) -> None:
        self.kept = self.frames = 0
        self.damaged: list[Damaged] = []
        self.left_out: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()

    def add(self, raw: RawEpisode | Damaged, result: Episode | LeftOut | Damaged) -> None:
        """Count one episode: `raw` is the recorded episode, `result` its conversion."""
        match result:
            case Damaged():
                self.damaged.append(result)
            case LeftOut():
                self.left_out[result.reason] += 1
            case Episode():
                self.kept, self.frames = self.kept + 1, self.frames + len(result.frames)
                if isinstance(raw, RawEpisode):
                    self.warnings.update(set(raw.warnings))

    def report(self) -> IngestReport:
        """Return the counts so far."""
        return IngestReport(
            self.kept, self.frames, tuple(self.damaged), tuple(sorted(self.left_out.items())),
            tuple(sorted(self.warnings.items())),
        )  # fmt: skip


def add_reports(reports: Sequence[IngestReport]) -> IngestReport:
    """Return the sum of several reports."""
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
    """Return the content of the file QUARANTINE."""
    record = {"damaged": [asdict(each) for each in report.damaged], "left_out": dict(report.left_out)}
    return record | ({"warnings": dict(report.warnings)} if report.warnings else {})


def verdict(report: IngestReport, spec: DatasetSpec) -> Literal["taken", "damaged", "empty"]:
    """Return "damaged" if more episodes are damaged than the spec tolerates, "empty" if none was kept, else "taken"."""
    if report.lost / max(1, report.kept + report.lost) > spec.tolerance:
        return "damaged"
    return "taken" if report.kept else "empty"


def check_tolerance(report: IngestReport, spec: DatasetSpec, source: str, listed: Path) -> None:
    """Raise SourceError if no episode was kept or too many are damaged, and list all damaged ones in the file
    `listed`."""
    damaged = report.lost
    total = report.kept + damaged
    outcome = verdict(report, spec)
    if outcome == "taken":
        return
    write_json(listed, quarantine_record(report))
    examples = "".join(f"\n  {each.name}: {each.reason}" for each in report.damaged[:5])
    unlisted = len(report.damaged) - 5
    more = f"\n  and {unlisted} more, listed in {listed}" if unlisted > 0 else ""
    if outcome == "damaged":
        raise SourceError(
            f"{damaged} of {total} episodes of {spec.uri} are damaged, more than sources.{source}.tolerance "
            f"{spec.tolerance:g} allows; repair them, or raise it{examples}{more}"
        )
    reasons = ", ".join(f"{count} left out by sources.{source}.{name}" for name, count in report.left_out)
    remedy = "change the fields that leave them out" if reasons else f"correct sources.{source}.uri"
    raise SourceError(f"{spec.uri} gives no episode ({reasons or 'it contains none'}); {remedy}{examples}{more}")
