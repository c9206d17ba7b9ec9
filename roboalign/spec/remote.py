"""Opens a DVC remote through DVC; its objects are downloaded and hashed, but never written."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from roboalign.spec.diagnostics import Diagnostic, SpecError
from roboalign.spec.document import COMMAND_LINE

WORKERS = 8
"""Number of objects that are downloaded at once."""


class Remote:
    """The remote `name` of a checkout's DVC configuration. Raises SpecError if it is missing or cannot be opened."""

    def __init__(self, root: Path, name: str) -> None:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            self._store = Repo(str(root)).cloud.get_remote_odb(name, "verify")
        except (DvcException, ImportError, OSError, ValueError) as error:
            raise SpecError([Diagnostic(f"the remote '{name}' cannot be opened: {error}", COMMAND_LINE)]) from None
        self.remedy = f"remove it there, then `dvc push -r {name}` from a checkout that `verify --cache` passes"

    def url(self, value: str) -> str:
        """The URL of the object with the hash `value`."""
        return str(self._store.fs.unstrip_protocol(self._store.oid_to_path(value)))

    def read(self, value: str) -> bytes | str:
        """The bytes of the object with the hash `value`, or a message that says why it cannot be read."""
        try:
            with self._store.fs.open(self._store.oid_to_path(value), "rb") as file:
                data: bytes = file.read()
                return data
        except FileNotFoundError:
            return "is missing"
        except Exception as error:  # the exception types depend on the kind of remote
            return f"cannot be downloaded ({type(error).__name__}: {error})"

    def check(self, values: Iterable[str]) -> Iterator[str]:
        """Download and hash objects. Yields for each, in order, a message that says what is wrong, or ''."""
        with ThreadPoolExecutor(WORKERS) as pool:
            yield from pool.map(self._check, values)

    def _check(self, value: str) -> str:
        try:
            with self._store.fs.open(self._store.oid_to_path(value), "rb") as file:
                state = hashlib.md5(usedforsecurity=False)
                while block := file.read(2**20):
                    state.update(block)
        except FileNotFoundError:
            return "is missing"
        except Exception as error:  # the exception types depend on the kind of remote
            return f"cannot be downloaded ({type(error).__name__}: {error})"
        return "" if state.hexdigest() == value else "is damaged"
