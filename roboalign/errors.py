"""The base class of errors that stop a stage."""


class StageError(Exception):
    """A stage cannot run; the message says why and what to do. `execute` prints it without a traceback.

    Parts derive their own errors from it.
    """


def printable(text: str) -> str:
    """Replace characters that are not printable, such as line feeds and terminal codes, by escapes such as `\\x1b`."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
