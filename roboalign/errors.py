"""The base class of errors that stop a stage, and the error for a package that is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager


class StageError(Exception):
    """A stage cannot run; the message says why and what to do. `execute` prints it without a traceback.

    Parts derive their own errors from it.
    """


@contextmanager
def require_extra(extra: str, feature: str) -> Iterator[None]:
    """Raise StageError that names `feature` and the extra to install, if an import in the block fails."""
    try:
        yield
    except ImportError as error:
        raise StageError(
            f"{feature} needs the package {error.name}, which is not installed; install the extra: roboalign[{extra}]"
        ) from None


def printable(text: str) -> str:
    """Replace characters that are not printable, such as line feeds and terminal codes, by escapes such as `\\x1b`."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
