"""Decodes untrusted text: bytes that are not UTF-8 are preserved, and rejected where the text would be stored."""

import json
import re

from roboalign import io
from roboalign.sources.errors import DamagedError
from roboalign.types import Json

LONGEST = 10_000
"""Largest length of an instruction, a task or a name in characters."""
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters except tab and line breaks, and lone surrogates, which represent bytes that are not UTF-8."""


def decode_text(data: bytes) -> str:
    """Decode UTF-8; invalid bytes become lone surrogates, which `check_text` rejects."""
    return data.decode("utf-8", "surrogateescape")


def parse_json(data: bytes) -> Json:
    """Parse a JSON document, decoding text as `decode_text` does. Raises ValueError."""
    return io.parse_json(data.decode(json.detect_encoding(data), "surrogateescape"))


def check_text(text: str, what: str) -> None:
    """Raise DamagedError if a text has lone surrogates or control characters, or is too long. `what` names the text."""
    if match := _REFUSED.search(text):
        code = ord(match[0])
        kind = "is not UTF-8" if code >= 0xD800 else f"has the control character U+{code:04X}"
        raise DamagedError(f"{what} {kind} at character {match.start()}")
    if len(text) > LONGEST:
        raise DamagedError(f"{what} has {len(text)} characters, more than {LONGEST}")
