"""A local server with OpenAI's chat completions, for tests: strict about requests, and misbehaving by script.

It scores a clip by its pixels: in dimension d (from 0) the absolute score is the mean brightness of the last frame, and
the faithful score that of the first frame, each raised to the power d + 1 and scaled to the dimension's maximum. So
tests prove that frames arrive whole and in order.
"""

import base64
import email.utils
import io
import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

PARAMETERS = {
    "model", "messages", "temperature", "max_tokens", "max_completion_tokens", "seed", "response_format",
}  # fmt: skip
PNG = "data:image/png;base64,"


class RequestError(Exception):
    """A request that the API refuses."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class ReceivedRequest:
    """A request as the server saw it: when it began and ended, its JSON body, its headers, its decoded frames."""

    began: float
    body: dict[str, Any]
    headers: dict[str, str]
    frames: list[np.ndarray] = field(default_factory=list)
    text: str = ""
    ended: float = 0.0


@dataclass
class OpenAIServer:
    """A running server.

    `script` holds the behaviours of the next requests, in the order of arrival; once it is empty, requests are
    answered well. A behaviour is a name (see `Handler.answer`), a status, or a pair (name, argument).
    """

    base_url: str = ""
    api_key: str | None = None
    script: deque[Any] = field(default_factory=deque)
    requests: list[ReceivedRequest] = field(default_factory=list)
    delay_s: float = 0.0
    """Seconds that every answer takes."""
    usage: dict[str, Any] | None = field(default_factory=lambda: {"prompt_tokens": 1000, "completion_tokens": 100})
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)


def scores(frames: list[np.ndarray], maxima: list[float]) -> tuple[list[float], list[float]]:
    """Absolute and faithful scores of frames (see the module's docstring)."""
    last, first = (float(np.mean(frame)) / 255 for frame in (frames[-1], frames[0]))
    return tuple([maximum * value ** (d + 1) for d, maximum in enumerate(maxima)] for value in (last, first))


def check_schema(schema: dict[str, Any]) -> None:
    """OpenAI's rules of strict schemas: every object is closed and requires all its keys."""
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False or sorted(schema["required"]) != sorted(
            schema["properties"]
        ):
            raise RequestError(400, "Invalid schema for response_format: objects must be closed", "invalid_schema")
        for part in schema["properties"].values():
            check_schema(part)


def decode_image(part: dict[str, Any]) -> np.ndarray:
    """The pixels of a content part with an image. Raises RequestError unless it is a whole PNG file."""
    url = part["image_url"]["url"]
    if not url.startswith(PNG):
        raise RequestError(400, "Invalid image_url", "invalid_image_url")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix(PNG), validate=True)), formats=["PNG"])
        image.load()
    except (ValueError, OSError):
        raise RequestError(400, "You uploaded an unsupported image", "invalid_image") from None
    if image.mode != "RGB":
        raise RequestError(400, f"image mode {image.mode}", "invalid_image")
    return np.asarray(image)


def check_request(body: Any, received: ReceivedRequest) -> None:
    """Validate a request's body as OpenAI does, and note its frames and text. Raises RequestError."""
    if not isinstance(body, dict):
        raise RequestError(400, "We could not parse the JSON body of your request.")
    if unknown := set(body) - PARAMETERS:
        raise RequestError(400, f"Unrecognized request argument supplied: {sorted(unknown)[0]}")
    if body.get("model") != "judge-8b":
        raise RequestError(404, f"The model `{body.get('model')}` does not exist", "model_not_found")
    if not 0 <= body.get("temperature", 1) <= 2:
        raise RequestError(400, "temperature must be from 0 to 2")
    if ("max_tokens" in body) == ("max_completion_tokens" in body):
        raise RequestError(400, "give one of max_tokens and max_completion_tokens")
    if [message.get("role") for message in body.get("messages", [])] != ["system", "user"]:
        raise RequestError(400, "messages must be one of the system and one of the user")
    system, user = body["messages"]
    if not isinstance(system["content"], str) or not isinstance(user["content"], list):
        raise RequestError(400, "Invalid type for message content")
    for part in user["content"]:
        if part.get("type") == "image_url":
            received.frames.append(decode_image(part))
        elif part.get("type") == "text":
            received.text += part["text"]
        else:
            raise RequestError(400, "Invalid content part")
    form = body.get("response_format", {"type": "text"})
    if form["type"] == "json_object" and "json" not in system["content"].lower():
        raise RequestError(400, "'messages' must contain the word 'json'")
    if form["type"] == "json_schema":
        named = form["json_schema"]
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", named["name"]) or named["strict"] is not True:
            raise RequestError(400, "Invalid json_schema")
        check_schema(named["schema"])


def write_answer(received: ReceivedRequest, names: list[str], maxima: list[float]) -> dict[str, Any]:
    """A good answer to a request."""
    absolute, faithful = scores(received.frames, maxima)
    answer: dict[str, Any] = {"rationale": "By the brightness.", "absolute": dict(zip(names, absolute, strict=True))}
    if "Actions of the robot" in received.text:
        answer["faithful"] = dict(zip(names, faithful, strict=True))
    return answer


@contextmanager
def serve_openai(names: list[str], maxima: list[float], *, api_key: str | None = None) -> Iterator[OpenAIServer]:
    """A running server on a free port of 127.0.0.1 that scores the dimensions `names`."""
    state = OpenAIServer(api_key=api_key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 2**16  # head and body in one packet: the second would wait for the first one's receipt

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            received = ReceivedRequest(time.monotonic(), {}, dict(self.headers))
            with state.lock:
                state.requests.append(received)
                behaviour = state.script.popleft() if state.script else "good"
            try:
                self.check_head()
                received.body = json.loads(raw)
                check_request(received.body, received)
            except RequestError as error:
                self.refuse(error.status, str(error), error.code)
            else:
                state.stopping.wait(state.delay_s)
                received.ended = time.monotonic()
                self.answer(behaviour, received)

        def check_head(self) -> None:
            if self.path != "/v1/chat/completions":
                raise RequestError(404, "Not Found")
            if self.headers.get("Content-Type") != "application/json":
                raise RequestError(415, "Unsupported media type")
            if state.api_key is not None and self.headers.get("Authorization") != f"Bearer {state.api_key}":
                given = self.headers.get("Authorization", "")
                raise RequestError(401, f"Incorrect API key provided: {given}\x1b[31m", "invalid_api_key")

        def answer(self, behaviour: Any, received: ReceivedRequest) -> None:
            name, argument = behaviour if isinstance(behaviour, tuple) else (behaviour, None)
            good = write_answer(received, names, maxima)
            match name:
                case "good":
                    self.complete(json.dumps(good))
                case int(status):
                    self.refuse(status, f"failure {status}", argument)
                case "retry_after":
                    self.refuse(429, "Rate limit reached", None, {"Retry-After": argument})
                case "slow":
                    state.stopping.wait(argument)
                    self.complete(json.dumps(good))
                case "drip":  # a byte now and then: no single read times out
                    self.head(200, 10_000, "application/json")
                    while not state.stopping.wait(0.02):
                        self.wfile.write(b" ")
                        self.wfile.flush()
                case "dropped":
                    self.close_connection = True
                case "cut_off":
                    body = self.completion(json.dumps(good))
                    self.head(200, len(body), "application/json")
                    self.wfile.write(body[: len(body) // 2])
                    self.close_connection = True
                case "text":
                    self.complete(argument)
                case "null":
                    self.complete(None)
                case "finish_reason":
                    self.complete(json.dumps(good), argument)
                case "missing":
                    del good["absolute"][names[0]]
                    self.complete(json.dumps(good))
                case "score":
                    good["absolute"][names[0]] = argument
                    self.complete(json.dumps(good))
                case "huge":
                    self.head(200, argument, "application/json")
                    sent = 0
                    while sent < argument:
                        self.wfile.write(b"x" * 2**16)
                        sent += 2**16
                case "redirect":
                    self.send(307, b"", "text/plain", {"Location": argument})
                case "html":
                    self.send(200, b"<html>Welcome</html>", "text/html")
                case "body":
                    self.send(200, argument, "application/json")
                case _:
                    raise AssertionError(behaviour)

        def completion(self, text: str | None, reason: str = "stop") -> bytes:
            value = {
                "id": "chatcmpl-1", "object": "chat.completion", "model": "judge-8b",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
                ],
            }  # fmt: skip
            if state.usage is not None:
                value["usage"] = state.usage
            return json.dumps(value).encode()

        def complete(self, text: str | None, reason: str = "stop") -> None:
            self.send(200, self.completion(text, reason), "application/json; charset=utf-8")

        def refuse(
            self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
        ) -> None:
            error = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
            self.send(status, json.dumps(error).encode(), "application/json", headers)

        def send(self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
            self.head(status, len(body), content_type, headers)
            self.wfile.write(body)

        def head(self, status: int, length: int, content_type: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in ({"Content-Type": content_type, "Content-Length": str(length)} | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Print nothing: clients that time out break connections on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    state.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def http_date(seconds: float) -> str:
    """The date `seconds` from now as HTTP writes it."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)
