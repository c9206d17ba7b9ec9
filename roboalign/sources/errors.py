"""The errors of the sources."""


class SourceError(ValueError):
    """A source cannot be recorded or read at all; the message says why and what to do."""


class DamagedError(ValueError):
    """One episode, or one file of a data set, cannot be used; the message says why. It is quarantined under that
    reason and the others are read on."""
