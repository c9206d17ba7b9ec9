"""The error of a stage that cannot run; parts derive their own from it."""


class StageError(Exception):
    """A stage cannot run; the message says why and what to do. `execute` prints it without a traceback."""


def printable(text: str) -> str:
    """The text on one line, with escapes such as `\\x1b` for what a terminal would obey or a file cannot hold."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
