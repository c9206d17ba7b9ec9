"""Errors of the sources.

They are not ValueErrors, so that an `except` clause for library errors does not catch them.
"""

from roboalign.errors import StageError, printable


class SourceError(StageError):
    """A source cannot be recorded or read. The message states the reason and the remedy.

    Control characters in the message, which may quote a data set, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(printable(line) for line in message.split("\n")))


class DamagedError(Exception):
    """One episode or file of a data set is unusable. The message states the reason.

    The episode is quarantined, and reading continues with the next one.
    """
