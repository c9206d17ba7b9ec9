"""Text out of files that others wrote: what is not UTF-8 is carried along, and refused where it would be kept."""

import json
import re

from roboalign import io
from roboalign.sources.errors import DamagedError
from roboalign.types import Json

LONGEST = 10_000
"""Characters of an instruction, a task or a name."""
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but tab and line breaks, and lone surrogates, which stand for bytes that are not UTF-8."""


def decode_text(data: bytes) -> str:
    """UTF-8 as text; bytes that are not UTF-8 become lone surrogates, which `check_text` refuses."""
    return data.decode("utf-8", "surrogateescape")


def parse_json(data: bytes) -> Json:
    """A JSON document. Raises ValueError; text in it that is not UTF-8 comes as by `decode_text`."""
    return io.parse_json(data.decode(json.detect_encoding(data), "surrogateescape"))


def check_text(text: str, what: str) -> None:
    """Raise DamagedError if a text that is to be kept has lone surrogates or control characters, or is too long."""
    if found := _REFUSED.search(text):
        code = ord(found[0])
        kind = "is not UTF-8" if code >= 0xD800 else f"has the control character U+{code:04X}"
        raise DamagedError(f"{what} {kind} at character {found.start()}")
    if len(text) > LONGEST:
        raise DamagedError(f"{what} has {len(text)} characters, more than {LONGEST}")
