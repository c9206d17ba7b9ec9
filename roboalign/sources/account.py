"""What became of a data set's episodes: kept, damaged, or left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from roboalign.io import write_json
from roboalign.sources.errors import SourceError
from roboalign.sources.readers.reader import Damaged
from roboalign.sources.readers.spec import DatasetSpec
from roboalign.types import Json

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

    @property
    def lost(self) -> int:
        """Damaged episodes."""
        return sum(each.lost for each in self.damaged)


def total(accounts: Sequence[Account]) -> Account:
    """The sum of all."""
    left_out: Counter[str] = Counter()
    for account in accounts:
        left_out.update(dict(account.left_out))
    return Account(
        sum(account.kept for account in accounts),
        sum(account.frames for account in accounts),
        tuple(each for account in accounts for each in account.damaged),
        tuple(sorted(left_out.items())),
    )


def quarantine(account: Account) -> dict[str, Json]:
    """What QUARANTINE holds."""
    return {"damaged": [asdict(each) for each in account.damaged], "left_out": dict(account.left_out)}


def tolerate(account: Account, spec: DatasetSpec, source: str, listed: Path) -> None:
    """Raise SourceError where nothing is kept or too much is damaged; everything damaged is listed in a file."""
    damaged = account.lost
    found = account.kept + damaged
    share = damaged / max(1, found)
    if account.kept and share <= spec.tolerance:
        return
    write_json(listed, quarantine(account))
    examples = "".join(f"\n  {each.name}: {each.reason}" for each in account.damaged[:5])
    rest = len(account.damaged) - 5
    more = f"\n  and {rest} more, listed in {listed}" if rest > 0 else ""
    if share > spec.tolerance:
        raise SourceError(
            f"{damaged} of {found} episodes of {spec.uri} are damaged, more than sources.{source}.tolerance "
            f"{spec.tolerance:g} allows; repair them, or raise it{examples}{more}"
        )
    reasons = ", ".join(f"{count} left out by sources.{source}.{name}" for name, count in account.left_out)
    remedy = "change what leaves them out" if reasons else f"correct sources.{source}.uri"
    raise SourceError(f"{spec.uri} gives no episode ({reasons or 'it holds none'}); {remedy}{examples}{more}")
