"""A small web server that serves parts of files and counts what it sends."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Counter[str]]]:
    """The address, and the bytes sent of each file."""
    sent: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 2**16  # head and body in one packet: the second would wait for the first one's receipt

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = folder / self.path.lstrip("/")
            data = path.read_bytes() if path.is_file() else b""
            start, stop, status = 0, len(data), 200 if path.is_file() else 404
            wanted = self.headers.get("Range")
            if wanted and status == 200:
                first, last = wanted.removeprefix("bytes=").split("-")
                start, stop, status = int(first), min(len(data), int(last) + 1), 206
            self.send_response(status)
            self.send_header("Content-Length", str(stop - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{path.name}"')
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            self.end_headers()
            if body:
                sent[path.name] += stop - start
                self.wfile.write(data[start:stop])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
