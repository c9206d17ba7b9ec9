"""Instructions that a spec states: a literal text, or a text extracted from a field."""

import re
from collections.abc import Iterator
from dataclasses import replace

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.instruction_spec import InstructionSpec
from roboalign.sources.readers.reader import Damaged, Part, RawEpisode, Reader, require_key


class InstructedReader:
    """Wraps a reader to replace the recorded instruction by the one that the spec states."""

    def __init__(self, reader: Reader, spec: InstructionSpec) -> None:
        self._reader, self._spec = reader, spec

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self._reader.fps

    def parts(self) -> list[Part]:
        """Return the parts of the wrapped reader."""
        return self._reader.parts()

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the episodes of a part; an episode whose field does not match the pattern is damaged."""
        for raw in self._reader.read(part):
            if isinstance(raw, Damaged):
                yield raw
                continue
            try:
                yield replace(raw, instruction=state_instruction(self._spec, raw))
            except DamagedError as error:
                yield Damaged(raw.name, str(error))


def state_instruction(spec: InstructionSpec, raw: RawEpisode) -> str:
    """Return the instruction of an episode.

    Raises DamagedError if the field is missing or the pattern does not match it.
    """
    if spec.pattern is None:
        return spec.text
    field = spec.field or ""
    if field not in raw.attributes and not raw.instruction:
        require_key(raw.attributes, field, "attribute")
    # The attribute of a segment describes the whole episode.
    value = raw.instruction if raw.recording is not None else raw.attributes.get(field, raw.instruction)
    match = re.search(spec.pattern, value)
    if match is None:
        raise DamagedError(f"its '{field}' is '{value}', which instruction.pattern does not match")
    parts = {name: (text or "").replace("_", " ").strip() for name, text in match.groupdict().items()}
    return spec.text.format(**parts) if spec.text else " ".join(filter(None, parts.values()))
