"""What became of a data set's episodes: kept, damaged, or left out."""

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
class Account:
    """What became of a shard's episodes."""

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


class Tally:
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

    def account(self) -> Account:
        """The counts."""
        return Account(
            self.kept, self.frames, tuple(self.damaged), tuple(sorted(self.left_out.items())),
            tuple(sorted(self.warnings.items())),
        )  # fmt: skip


def total(accounts: Sequence[Account]) -> Account:
    """The sum of all."""
    left_out: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for account in accounts:
        left_out.update(dict(account.left_out))
        warnings.update(dict(account.warnings))
    return Account(
        sum(account.kept for account in accounts),
        sum(account.frames for account in accounts),
        tuple(each for account in accounts for each in account.damaged),
        tuple(sorted(left_out.items())),
        tuple(sorted(warnings.items())),
    )


def quarantine(account: Account) -> dict[str, Json]:
    """What QUARANTINE holds."""
    found = {"damaged": [asdict(each) for each in account.damaged], "left_out": dict(account.left_out)}
    return found | ({"warnings": dict(account.warnings)} if account.warnings else {})


def verdict(account: Account, spec: DatasetSpec) -> Literal["taken", "damaged", "empty"]:
    """Whether a data set is taken: not if more is damaged than its spec tolerates, or if nothing is kept."""
    if account.lost / max(1, account.kept + account.lost) > spec.tolerance:
        return "damaged"
    return "taken" if account.kept else "empty"


def tolerate(account: Account, spec: DatasetSpec, source: str, listed: Path) -> None:
    """Raise SourceError where nothing is kept or too much is damaged; everything damaged is listed in a file."""
    damaged = account.lost
    found = account.kept + damaged
    answer = verdict(account, spec)
    if answer == "taken":
        return
    write_json(listed, quarantine(account))
    examples = "".join(f"\n  {each.name}: {each.reason}" for each in account.damaged[:5])
    rest = len(account.damaged) - 5
    more = f"\n  and {rest} more, listed in {listed}" if rest > 0 else ""
    if answer == "damaged":
        raise SourceError(
            f"{damaged} of {found} episodes of {spec.uri} are damaged, more than sources.{source}.tolerance "
            f"{spec.tolerance:g} allows; repair them, or raise it{examples}{more}"
        )
    reasons = ", ".join(f"{count} left out by sources.{source}.{name}" for name, count in account.left_out)
    remedy = "change what leaves them out" if reasons else f"correct sources.{source}.uri"
    raise SourceError(f"{spec.uri} gives no episode ({reasons or 'it holds none'}); {remedy}{examples}{more}")
