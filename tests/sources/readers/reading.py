"""What the tests of the readers share: reading a whole data set as the stage does, shard by shard."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from roboalign.sources.builder import build_reader
from roboalign.sources.readers.convert import convert
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import Damaged, LeftOut
from roboalign.sources.spec import RecordedSpec
from roboalign.types import Episode


def read_all(spec: RecordedSpec, cache: Path) -> tuple[list[Episode], list[Damaged], list[LeftOut]]:
    """All episodes of a data set, all that is damaged in it, and what its spec leaves out."""
    episodes: list[Episode] = []
    damaged: list[Damaged] = []
    left_out: list[LeftOut] = []
    for part in build_reader(spec, cache).parts():
        # A reader of its own for each part, as every worker has.
        for raw in build_reader(spec, cache).read(part):
            match raw if isinstance(raw, Damaged) else convert(raw, spec, "source"):
                case Damaged() as found:
                    damaged.append(found)
                case LeftOut() as unwanted:
                    left_out.append(unwanted)
                case Episode() as episode:
                    episodes.append(episode)
    return episodes, damaged, left_out


def only(found: list[Damaged]) -> Damaged:
    """The one damaged thing."""
    assert len(found) == 1, found
    return found[0]


def mutilated(content: bytes, seed: int) -> bytes:
    """A file's content with its end cut off, some bytes changed, or a stretch of it overwritten."""
    rng = np.random.default_rng(seed)
    changed = bytearray(content)
    match seed % 3:
        case 0:
            return bytes(changed[: rng.integers(len(changed))])
        case 1:
            for place in rng.integers(min(len(changed), 6000), size=6):
                changed[place] = rng.integers(256)
        case _:
            start = rng.integers(len(changed))
            changed[start : start + 200] = rng.bytes(len(changed[start : start + 200]))
    return bytes(changed)


def survives(path: Path, read: Callable[[], tuple[list[Episode], list[Damaged], list[LeftOut]]]) -> None:
    """However the file of one of three episodes is spoilt, the reading ends, and the other two are read."""
    content, found = path.read_bytes(), 0
    for seed in range(60):
        path.write_bytes(mutilated(content, seed))
        episodes, damaged, _ = read()
        assert len(episodes) + len(damaged) == 3
        assert len(episodes) >= 2
        found += len(damaged)
    assert found >= 20


def lose(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """From now on, files with this ending are opened, but the connection is lost when they are read."""
    real = Files.open

    def read(*_: object) -> bytes:
        raise TimeoutError("the server does not answer")

    def opened(files: Files, name: str) -> Any:
        stream = real(files, name)
        if not name.endswith(ending):
            return stream
        lost = MagicMock(wraps=stream)
        lost.read = lost.readinto = lost.readline = lost.__next__ = read
        lost.__enter__.return_value = lost
        lost.__exit__.side_effect = lambda *_: stream.close()
        return lost

    monkeypatch.setattr(Files, "open", opened)


class Ranges(SimpleHTTPRequestHandler):
    """Serves files, and the ranges of them that are asked for, as object stores do."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(content[first : last + 1])


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's address on a server of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
