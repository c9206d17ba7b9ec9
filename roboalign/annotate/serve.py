"""A study on this machine's own web server: the page, and a place to send scores to."""

import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from roboalign.annotate.answers import Answers
from roboalign.bench.annotations import AnnotationError

HOST = "127.0.0.1"
LONGEST = 65_536
"""Most bytes of one answer."""
LENGTH = re.compile("[0-9]{1,9}", re.ASCII)
"""A Content-Length; `str.isdigit` would take `²`, and `int` refuses numbers of thousands of digits."""


class Server(ThreadingHTTPServer):
    """Serves one page to this machine alone. `page` makes it anew at each visit, with the scores saved so far."""

    daemon_threads = True

    def __init__(self, port: int, page: Callable[[], str], answers: Answers) -> None:
        """Raises OSError where the port is taken; port 0 takes a free one."""
        super().__init__((HOST, port), Handler)
        self.page, self.answers = page, answers

    def handle_error(self, request: object, client_address: object) -> None:
        """Print one line; a connection that the browser dropped is not worth one."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"error: a request failed ({type(error).__name__}: {error})", file=sys.stderr)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """`GET /` is the page, `POST /answers` saves one annotation."""

    server: Server
    timeout = 60

    def do_GET(self) -> None:
        """The page."""
        if not self._own():
            return
        if self.path == "/":
            self._reply(HTTPStatus.OK, self.server.page(), "text/html")
        else:
            self._reply(HTTPStatus.NOT_FOUND, "there is only /")

    def do_POST(self) -> None:
        """Save an answer; 200 means that it is on the disk."""
        if not self._own():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/answers":
            self._reply(HTTPStatus.NOT_FOUND, "answers go to /answers")
        elif "Transfer-Encoding" in self.headers or not LENGTH.fullmatch(length):
            self._reply(HTTPStatus.LENGTH_REQUIRED, "an answer comes with its Content-Length, a whole number")
        elif int(length) > LONGEST:
            self._reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "an answer is a few hundred bytes")
        elif self.headers.get_content_type() != "application/json":
            # Other sites' pages can post forms here, but not JSON: the browser asks this server first, and gets no.
            self._reply(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "an answer is JSON")
        else:
            self._save(int(length))

    def _save(self, length: int) -> None:
        """Read and save an answer of `length` bytes."""
        data = self.rfile.read(length)
        if len(data) < length:
            self._reply(HTTPStatus.BAD_REQUEST, f"the answer ends after {len(data)} of {length} bytes; send it again")
            return
        try:
            self.server.answers.add(data.decode("utf-8"))
        except (AnnotationError, UnicodeDecodeError) as error:
            self._reply(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, f"the file cannot be written: {error}")
        else:
            self._reply(HTTPStatus.OK, "saved")

    def _own(self) -> bool:
        """Whether the request is this machine's own page's: a foreign name that resolves here must not read it, and a
        foreign page in the same browser must not write."""
        host = self.headers.get("Host", "")
        own = host.rpartition(":")[0] in (HOST, "localhost") and self.headers.get("Origin") in (None, f"http://{host}")
        if not own:
            self._reply(HTTPStatus.FORBIDDEN, "this page is for this machine alone")
        return own

    def _reply(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        body = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: each answer would be a line."""
