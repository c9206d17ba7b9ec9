"""A client of the chat completions endpoint of OpenAI-compatible servers: one request, one checked response.

It decides which failures may pass (`TransientError`) and which need a person (`JudgeServerError`); retrying is the
caller's business. The API key is sent in one header and never quoted: error texts of servers that echo it are redacted.
"""

import email.utils
import io
import ipaddress
import json
import math
import time
import urllib.request
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from roboalign.io import parse_json
from roboalign.run import StageError

MAX_BODY = 4 * 2**20
"""Largest response in bytes; a long answer of 100,000 tokens has about 0.5 MB."""
MAX_QUOTE = 300
"""Characters of a server's error text that a message quotes."""
MIN_SECRET = 8
"""Keys shorter than this are placeholders such as EMPTY; redacting them would only garble texts."""
TRANSIENT = frozenset({408, 409, 425, 429})
"""Statuses below 500 that are worth another try."""
UNSUPPORTED = "check judge.model, judge.structured_output, judge.seed and judge.temperature against what it supports"
REMEDIES = {
    400: UNSUPPORTED,
    401: "check the API key: judge.api_key_env names the environment variable that holds it",
    402: "the account needs credit",
    403: "check that the API key (judge.api_key_env) may use this model",
    404: "check judge.base_url, which usually ends in /v1, and judge.model",
    413: "the request is too large; lower judge.frames or judge.image_size",
    422: UNSUPPORTED,
}


class JudgeServerError(StageError):
    """The judge's server cannot be used as the spec says; the message names the server, the status and the remedy."""


class TransientError(Exception):
    """A failure that may pass. `retry_after` is the pause in seconds that the server asks for, or None."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one request, as the server counts them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer: its text ('' if the model refused), why it ended, and its tokens (None if not reported)."""

    text: str
    finish_reason: str
    usage: TokenUsage | None


class ChatClient:
    """Sends chat completions to one server; an async context manager that holds the connections.

    Args:
        base_url: Address of the API; requests go to `<base_url>/chat/completions`.
        api_key: Bearer token, or None.
        timeout_s: Seconds that one request may take in all.
        concurrency: Connections held open.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float, concurrency: int) -> None:
        self.base_url = base_url.rstrip("/")
        self._url = f"{self.base_url}/chat/completions"
        self._api_key, self._timeout_s, self._concurrency = api_key, timeout_s, concurrency
        self._proxy = environment_proxy(self._url)

    def __repr__(self) -> str:
        return f"ChatClient({self.base_url!r})"

    async def __aenter__(self) -> Self:
        # trust_env would also send passwords from ~/.netrc. Bodies stay compressed, so that MAX_BODY bounds them.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            trust_env=False,
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    def redact(self, text: str) -> str:
        """`text` without the API key."""
        if self._api_key is None or len(self._api_key) < MIN_SECRET:
            return text
        return text.replace(self._api_key, "[API key]")

    async def complete(self, body: bytes) -> Completion:
        """Send one request and return its first choice.

        Raises TransientError on time-outs, connection errors, cut-off bodies and statuses that may pass;
        JudgeServerError on everything that another attempt would not change. Redirects are never followed.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        # The errors are raised outside the `except` blocks: those of aiohttp hold the request's headers, key included.
        failure: JudgeServerError | TransientError
        try:
            async with self._session.post(
                self._url, data=io.BytesIO(body), headers=headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                content, complete = await _read_bounded(response)
                if response.status != 200:
                    raise self._status_error(response, content)
                if not complete:
                    raise JudgeServerError(
                        f"{self.base_url} sent a response of more than {MAX_BODY} bytes; "
                        "check that judge.base_url is an OpenAI-compatible API"
                    )
                if response.content_type != "application/json":
                    raise JudgeServerError(
                        f"{self.base_url} answered {self._quote(response.content_type)} instead of application/json; "
                        "check judge.base_url, which usually ends in /v1"
                    )
            return self._parse(content)
        except TimeoutError:
            failure = TransientError(f"no answer within {self._timeout_s:g} s (judge.timeout_s)")
        except aiohttp.ClientConnectorCertificateError as error:
            failure = JudgeServerError(
                f"{self.base_url} has no valid certificate ({self._quote(str(error.certificate_error))}); "
                "SSL_CERT_FILE names the file of a private authority"
            )
        except aiohttp.ClientPayloadError:
            failure = TransientError("the connection broke off within the response")
        except (aiohttp.ClientError, OSError) as error:
            failure = TransientError(f"connection failed ({type(error).__name__}: {self._quote(str(error))})")
        raise failure

    def _quote(self, text: str) -> str:
        """Foreign text for a message: one line, printable, bounded, without the key."""
        line = " ".join(self.redact(text).split())
        line = "".join(character if character.isprintable() else "?" for character in line)
        return line if len(line) <= MAX_QUOTE else f"{line[:MAX_QUOTE]}…"

    def _status_error(self, response: aiohttp.ClientResponse, content: bytes) -> JudgeServerError | TransientError:
        """The error of a response whose status is not 200."""
        status = response.status
        message, code = _error_text(content)
        text = f"{self.base_url} answered status {status}" + (f": {self._quote(message)}" if message else "")
        if 300 <= status < 400:
            target = urlsplit(response.headers.get("Location", ""))
            return JudgeServerError(
                f"{text}, a redirect to {self._quote(target.netloc) or 'nowhere'}, which is not followed: "
                "the key and the frames are for this server only; set judge.base_url to the final address"
            )
        if code == "insufficient_quota":
            return JudgeServerError(f"{text}; the account's quota is used up, add credit")
        if status in TRANSIENT or status >= 500:
            return TransientError(text, parse_retry_after(response.headers.get("Retry-After")))
        return JudgeServerError(f"{text}; {REMEDIES.get(status, 'check judge.base_url and judge.model')}")

    def _parse(self, content: bytes) -> Completion:
        """The first choice of a response body. Raises TransientError if the body is not a chat completion."""
        try:
            value: Any = parse_json(content)
        except ValueError:
            raise TransientError("the response is not JSON") from None
        try:
            choice = value["choices"][0]
            text, reason = choice["message"].get("content"), choice.get("finish_reason")
        except (AttributeError, IndexError, KeyError, TypeError):
            # Gateways report errors of the server behind them in this way.
            message, _ = _error_text(content)
            raise TransientError(
                f"the response is not a chat completion{f': {self._quote(message)}' if message else ''}"
            ) from None
        if text is not None and not isinstance(text, str):
            raise TransientError("the response's message.content is not a text")
        return Completion(text or "", reason if isinstance(reason, str) else "", _token_usage(value.get("usage")))


async def _read_bounded(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body up to MAX_BODY bytes, and whether that is all of it."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        content += chunk
        if len(content) > MAX_BODY:
            response.close()
            return bytes(content[:MAX_BODY]), False
    return bytes(content), True


def _error_text(content: bytes) -> tuple[str, str]:
    """Message and code of an error body in OpenAI's or FastAPI's form, else its text and ''."""
    try:
        value: Any = parse_json(content)
    except ValueError:
        return content.decode("utf-8", "replace"), ""
    if isinstance(value, dict):
        error = value.get("error", value)
        if isinstance(error, dict):
            message = error.get("message") or error.get("detail") or ""
            return (message if isinstance(message, str) else json.dumps(message)), str(error.get("code") or "")
        return str(error), ""
    return "", ""


def _token_usage(value: Any) -> TokenUsage | None:
    """The token counts of a response; None unless both are whole numbers from 0."""
    if not isinstance(value, dict):
        return None
    counts = [value.get("prompt_tokens"), value.get("completion_tokens")]
    valid = [count for count in counts if type(count) is int and 0 <= count < 2**40]
    return TokenUsage(*valid) if len(valid) == 2 else None


def parse_retry_after(value: str | None) -> float | None:
    """Seconds to wait by a `Retry-After` header (seconds or a date), or None if there is none or it is not valid."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def environment_proxy(url: str) -> str | None:
    """The proxy for `url` by HTTP_PROXY, HTTPS_PROXY and NO_PROXY; never one for this machine's own addresses.

    A judge on localhost must not be looked for on the proxy's localhost. Raises JudgeServerError on a SOCKS proxy.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise JudgeServerError(
            f"the environment's proxy for {parts.scheme} is neither http nor https; "
            f"change {parts.scheme.upper()}_PROXY, or add {host} to NO_PROXY"
        )
    return proxy


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
