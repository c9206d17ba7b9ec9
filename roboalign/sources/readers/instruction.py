"""Instructions that a spec states: a literal text, or parts of a field."""

import re
from collections.abc import Iterator
from dataclasses import replace

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.instruction_spec import InstructionSpec
from roboalign.sources.readers.reader import Damaged, Part, Raw, Reader, require_key


class InstructedReader:
    """A reader whose episodes have the instruction that the spec states in place of the recorded one."""

    def __init__(self, reader: Reader, spec: InstructionSpec) -> None:
        self._reader, self._spec = reader, spec

    @property
    def fps(self) -> float:
        """Recorded frames per second."""
        return self._reader.fps

    def parts(self) -> list[Part]:
        """The parts of the reader."""
        return self._reader.parts()

    def read(self, part: Part) -> Iterator[Raw | Damaged]:
        """The episodes of a part; one in whose field the pattern finds nothing is damaged."""
        for raw in self._reader.read(part):
            if isinstance(raw, Damaged):
                yield raw
                continue
            try:
                yield replace(raw, instruction=state_instruction(self._spec, raw))
            except DamagedError as error:
                yield Damaged(raw.name, str(error))


def state_instruction(spec: InstructionSpec, raw: Raw) -> str:
    """The instruction of an episode. Raises DamagedError if the field is absent or the pattern finds nothing in it."""
    if spec.pattern is None:
        return spec.text
    field = spec.field or ""
    if field not in raw.attributes and not raw.instruction:
        require_key(raw.attributes, field, "attribute")
    # The attribute of a stretch is that of the whole episode.
    value = raw.instruction if raw.recording is not None else raw.attributes.get(field, raw.instruction)
    found = re.search(spec.pattern, value)
    if found is None:
        raise DamagedError(f"its '{field}' is '{value}', in which instruction.pattern finds nothing")
    parts = {name: (text or "").replace("_", " ").strip() for name, text in found.groupdict().items()}
    return spec.text.format(**parts) if spec.text else " ".join(filter(None, parts.values()))
