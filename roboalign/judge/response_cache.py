"""Answers of a server on disk, one JSON file per request, so that none is asked or paid for twice."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from roboalign.io import parse_json, write_json
from roboalign.types import Json

MAX_ENTRY = 16 * 2**20
"""Largest file in bytes that is read as an entry."""


def request_hash(request: Mapping[str, Json]) -> str:
    """The key of a request: SHA-256 of its canonical JSON, 64 hex digits."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class ResponseCache:
    """A folder of answers by request hash; with `folder` None it keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def path(self, key: str) -> Path | None:
        """The file of a request's answer."""
        return None if self._folder is None else self._folder / key[:2] / f"{key}.json"

    def load(self, key: str) -> str | None:
        """The answer to a request; None if there is none, or the entry is damaged or another request's."""
        path = self.path(key)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                value = parse_json(file.read(MAX_ENTRY))
            text = value["text"]
            intact = value["request"] == key and value["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return text if intact else None

    def store(self, key: str, text: str, model: str) -> None:
        """Keep the answer to a request; the file is written whole or not at all."""
        path = self.path(key)
        if path is not None:
            entry = {"request": key, "model": model, "text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
            write_json(path, entry)
