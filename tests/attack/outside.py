"""Watching what a reader must never touch: files outside of the data set, and the network."""

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_OPENED = 0x20 | 0x1  # IN_OPEN, IN_ACCESS
_NONBLOCK = 0o4000


@dataclass
class Outside:
    """A folder beside the data set, and a server; both note who comes."""

    folder: Path
    address: str
    opened: list[str] = field(default_factory=list)
    """Names of the files that were opened, by whatever library."""
    calls: int = 0
    """Connections to the server."""


@contextmanager
def watched(folder: Path) -> Iterator[Outside]:
    """Watch the files of a folder by inotify, and a port of this machine."""
    libc = ctypes.CDLL(None, use_errno=True)
    events = libc.inotify_init1(_NONBLOCK)
    assert events >= 0
    assert libc.inotify_add_watch(events, os.fsencode(folder), _OPENED) >= 0
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        outside = Outside(folder, f"http://127.0.0.1:{server.getsockname()[1]}")

        def listen() -> None:
            while not stop.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue
                outside.calls += 1

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield outside
        finally:
            stop.set()
            thread.join()
            outside.opened += names(events)
            os.close(events)


def names(events: int) -> list[str]:
    """The names in the events that wait."""
    found = []
    try:
        while data := os.read(events, 2**16):
            place = 0
            while place < len(data):
                (length,) = struct.unpack_from("I", data, place + 12)
                found.append(data[place + 16 : place + 16 + length].rstrip(b"\0").decode())
                place += 16 + length
    except BlockingIOError:
        return found
    return found
