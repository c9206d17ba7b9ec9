import socket
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web import serving

from roboalign.sources.readers import blocks
from roboalign.sources.readers.blocks import open_remote
from roboalign.sources.readers.files import Files

CONTENT = np.random.default_rng(0).bytes(100)


class Place:
    """A remote place with one file, which can fail."""

    def __init__(self, content: bytes = CONTENT, tag: str = "1", size: int | None = -1) -> None:
        self.content, self.tag = content, tag
        self.size = len(content) if size == -1 else size
        self.asked: list[tuple[int, int]] = []
        self.failures: list[Exception | bytes] = []

    def info(self, path: str) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": self.size, "ETag": self.tag}

    def unstrip_protocol(self, path: str) -> str:
        return f"far://{path}"

    def cat_file(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        stop = len(self.content) if end is None else end
        self.asked.append((start, stop))
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, bytes):
                return failure
            raise failure
        return self.content[start:stop]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 16)
    monkeypatch.setattr(blocks, "PAUSE", 0.0)


steps = st.lists(st.tuples(st.integers(0, 120), st.integers(-1, 60)), max_size=8)


@given(steps)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_reads_like_a_file(tmp_path: Path, reads: list[tuple[int, int]]) -> None:
    with open_remote(Place(), "a", tmp_path) as file:
        assert file.seek(0, 2) == len(CONTENT)
        for place, count in reads:
            file.seek(place)
            wanted = CONTENT[place:] if count < 0 else CONTENT[place : place + count]
            assert file.read(count) == wanted


def test_every_block_comes_once_and_stays(tmp_path: Path) -> None:
    place = Place()
    with open_remote(place, "a", tmp_path) as file:
        assert place.asked == []
        file.seek(40)
        assert file.read(3) == CONTENT[40:43]
        # The reader takes what it may need next, and no more than 64 kB of it.
        assert place.asked[0] == (32, 48)
        assert file.seek(0) == 0
        assert file.read() == CONTENT
    assert sorted(place.asked) == [(start, min(start + 16, 100)) for start in range(0, 100, 16)]
    with open_remote(place, "a", tmp_path) as file:
        assert file.read() == CONTENT
    assert len(place.asked) == 7


def test_a_lost_connection_leaves_nothing_behind(tmp_path: Path) -> None:
    place = Place()
    place.failures = [b"", TimeoutError("no answer"), ConnectionResetError("reset")]
    with open_remote(place, "a", tmp_path) as file, pytest.raises(ConnectionError, match="ConnectionResetError: reset"):
        file.read()
    assert len(place.asked) == 3
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with open_remote(place, "a", tmp_path) as file:
        assert file.read() == CONTENT


def test_a_short_answer_is_asked_for_again(tmp_path: Path) -> None:
    place = Place()
    place.failures = [CONTENT[:5], OSError("busy")]
    with open_remote(place, "a", tmp_path) as file:
        assert file.read() == CONTENT
    place.failures = [b"too much for a block"] * 3
    with (
        open_remote(place, "b", tmp_path) as file,
        pytest.raises(ConnectionError, match="20 bytes were received instead of 16"),
    ):
        file.read()


def test_half_a_block_in_the_cache_is_not_believed(tmp_path: Path) -> None:
    with open_remote(Place(), "a", tmp_path) as file:
        assert file.read() == CONTENT
    path = next(path for path in tmp_path.rglob("*") if path.name == "000002")
    path.write_bytes(b"short")
    with open_remote(Place(), "a", tmp_path) as file:
        assert file.read() == CONTENT


def test_changed_content_is_fetched_anew(tmp_path: Path) -> None:
    with open_remote(Place(), "a", tmp_path) as file:
        assert file.read() == CONTENT
    with open_remote(Place(CONTENT[::-1], tag="2"), "a", tmp_path) as file:
        assert file.read() == CONTENT[::-1]
    with open_remote(Place(CONTENT[::-1]), "other", tmp_path) as file:
        assert file.read() == CONTENT[::-1]


def test_a_server_that_does_not_tell_a_size(tmp_path: Path) -> None:
    with open_remote(Place(size=None), "a", tmp_path) as file:
        assert file.read() == CONTENT


def test_an_empty_file(tmp_path: Path) -> None:
    with open_remote(Place(b""), "a", tmp_path) as file:
        assert file.read() == b""


def test_missing_files_folders_and_servers(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/blocks/some/file", CONTENT)
    with open_remote(memory, "/blocks/some/file", tmp_path) as file:
        assert file.read() == CONTENT
    with pytest.raises(FileNotFoundError):
        open_remote(memory, "/blocks/none", tmp_path)
    with pytest.raises(IsADirectoryError):
        open_remote(memory, "/blocks/some", tmp_path)
    web = fsspec.filesystem("http")
    with serving(tmp_path) as (address, _), pytest.raises(FileNotFoundError):
        open_remote(web, f"{address}/none", tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match="none"):  # nobody answers there
        open_remote(web, f"http://127.0.0.1:{port}/none", tmp_path)
    away = Files.at(f"http://127.0.0.1:{port}", {}, tmp_path)
    with pytest.raises(ConnectionError, match="none"):
        away.exists("none")
    near = Files.at("memory://blocks/some", {}, tmp_path)
    assert (near.exists("file"), near.exists("none")) == (True, False)
    assert near.bytes("file") == CONTENT
