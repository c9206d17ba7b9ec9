"""The web server of a study on this machine: serves the page and saves scores."""

import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from roboalign.annotate.answers import Answers
from roboalign.bench.annotations import AnnotationError

HOST = "127.0.0.1"
LONGEST = 65_536
"""Maximum size of one answer in bytes."""
LENGTH = re.compile("[0-9]{1,9}", re.ASCII)
"""A Content-Length. `str.isdigit` would accept `²`, and `int` raises on thousands of digits."""


class Server(ThreadingHTTPServer):
    """Serves one page to this machine only. `page` renders it at each request, with the scores saved so far."""

    daemon_threads = True

    def __init__(self, port: int, page: Callable[[], str], answers: Answers) -> None:
        """Bind the port; 0 chooses a free one. Raises OSError if the port is in use."""
        super().__init__((HOST, port), Handler)
        self.page, self.answers = page, answers

    def handle_error(self, request: object, client_address: object) -> None:
        """Print one line, except for connections that the browser closed."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"error: a request failed ({type(error).__name__}: {error})", file=sys.stderr)

    @property
    def url(self) -> str:
        """The URL of the page."""
        return f"http://{HOST}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """`GET /` is the page, `POST /answers` saves one annotation."""

    server: Server
    timeout = 60

    def do_GET(self) -> None:
        """Send the page."""
        if not self._is_same_origin():
            return
        if self.path == "/":
            self._reply(HTTPStatus.OK, self.server.page(), "text/html")
        else:
            self._reply(HTTPStatus.NOT_FOUND, "not found; the page is at /")

    def do_POST(self) -> None:
        """Save an answer; status 200 means that it is on the disk."""
        if not self._is_same_origin():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/answers":
            self._reply(HTTPStatus.NOT_FOUND, "not found; send answers to /answers")
        elif "Transfer-Encoding" in self.headers or not LENGTH.fullmatch(length):
            self._reply(HTTPStatus.LENGTH_REQUIRED, "an answer needs a Content-Length, a whole number")
        elif int(length) > LONGEST:
            self._reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an answer has at most {LONGEST} bytes")
        elif self.headers.get_content_type() != "application/json":
            # Pages of other sites can post forms, but JSON needs a preflight request, which this server rejects.
            self._reply(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "an answer must be application/json")
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

    def _is_same_origin(self) -> bool:
        """Whether the request is from this server's page; sends status 403 if not.

        Checks the host name, against DNS rebinding, and the origin, against pages of other sites in the same browser.
        """
        host = self.headers.get("Host", "")
        same = host.rpartition(":")[0] in (HOST, "localhost") and self.headers.get("Origin") in (None, f"http://{host}")
        if not same:
            self._reply(HTTPStatus.FORBIDDEN, "this page can be used on this machine only")
        return same

    def _reply(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        """Send a response with the body `text`."""
        body = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing, because each answer would be a line."""
