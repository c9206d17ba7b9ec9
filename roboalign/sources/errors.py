"""The errors of the sources. They are not ValueErrors: an `except` for what a library raises never catches them."""

from roboalign.errors import StageError, printable


class SourceError(StageError):
    """A source cannot be recorded or read at all; the message says why and what to do. What it quotes of a data set
    cannot order a terminal about."""

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(printable(line) for line in message.split("\n")))


class DamagedError(Exception):
    """One episode, or one file of a data set, cannot be used; the message says why. It is quarantined under that
    reason and the others are read on."""
