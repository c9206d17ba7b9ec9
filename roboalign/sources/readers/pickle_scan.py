"""Checks a pickle without running it: its opcodes are simulated on a stack of value kinds.

Rejected before anything is unpickled: dict keys that are not plain texts or numbers (hashing nested tuples can take
forever), sets, opcodes that build on a name instead of an object, and everything else that CALVIN's annotations do not
need.
"""

import pickle
import pickletools
from typing import Literal

Kind = Literal["mark", "atom", "list", "dict", "tuple", "name", "object"]
"""Kind of a value on the stack. Plain texts, numbers and None are atoms; a name stands for a function or class."""

OPCODES = 10_000_000
"""Largest number of opcodes; CALVIN's annotations have some 200,000."""
SKIPPED = 1000
"""Largest number of memo slots that a pickle may skip."""
_ATOMS = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
})  # fmt: skip
_IDLE = frozenset({"PROTO", "FRAME", "STOP"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Stack:
    """The kinds of the values on the stack and in the memo of an unpickler."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.memo: dict[int, Kind] = {}

    def pop(self, *wanted: Kind) -> Kind:
        """Pop the top value, which must have a wanted kind, or any but "mark" if none is given."""
        kind = self.kinds.pop()
        if kind == "mark" or (wanted and kind not in wanted):
            raise pickle.UnpicklingError(f"it has a {kind} where {' or '.join(wanted) or 'a value'} should be")
        return kind

    def pop_to_mark(self) -> list[Kind]:
        """Pop all values above the top mark, and the mark."""
        start = len(self.kinds) - 1 - self.kinds[::-1].index("mark")
        values = self.kinds[start + 1 :]
        del self.kinds[start:]
        return values

    def set_items(self, keys: list[Kind]) -> None:
        """Set items with these keys in the dict on top of the stack."""
        if any(key != "atom" for key in keys):
            raise pickle.UnpicklingError("a key of a dict is not a text or number")
        self.pop("dict")
        self.kinds.append("dict")


def scan(data: bytes) -> None:
    """Raise UnpicklingError if a pickle contains operations that annotations do not need; other errors if it is
    garbled."""
    stack = _Stack()
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if number >= OPCODES:
            raise pickle.UnpicklingError(f"it has more than {OPCODES} opcodes")
        _follow(stack, opcode.name, argument)


def _follow(stack: _Stack, name: str, argument: object) -> None:
    kinds = stack.kinds
    if name in _ATOMS:
        kinds.append("atom")
    elif name in _PUTS:
        slot = argument if isinstance(argument, int) else len(stack.memo)
        if slot > len(stack.memo) + SKIPPED:  # the unpickler allocates all slots up to it
            raise pickle.UnpicklingError(f"it uses memo slot {slot}")
        stack.memo[slot] = kinds[-1]
    elif name in _GETS and isinstance(argument, int):
        kinds.append(stack.memo[argument])
    elif name in _TUPLES:
        for _ in range(_TUPLES[name]):
            stack.pop()
        kinds.append("tuple")
    elif name not in _IDLE:
        _follow_container(stack, name)


def _follow_container(stack: _Stack, name: str) -> None:
    kinds = stack.kinds
    match name:
        case "MARK":
            kinds.append("mark")
        case "POP":
            kinds.pop()
        case "POP_MARK":
            stack.pop_to_mark()
        case "DUP":
            kinds.append(kinds[-1])
        case "EMPTY_LIST":
            kinds.append("list")
        case "EMPTY_DICT":
            kinds.append("dict")
        case "LIST" | "TUPLE":
            stack.pop_to_mark()
            kinds.append("list" if name == "LIST" else "tuple")
        case "DICT":
            keys = stack.pop_to_mark()[::2]
            kinds.append("dict")
            stack.set_items(keys)
        case "APPEND":
            stack.pop()
            stack.pop("list")
            kinds.append("list")
        case "APPENDS":
            stack.pop_to_mark()
            stack.pop("list")
            kinds.append("list")
        case "SETITEM":
            stack.pop()
            stack.set_items([stack.pop()])
        case "SETITEMS":
            stack.set_items(stack.pop_to_mark()[::2])
        case "GLOBAL":
            kinds.append("name")
        case "STACK_GLOBAL":
            stack.pop("atom")
            stack.pop("atom")
            kinds.append("name")
        case "REDUCE":
            stack.pop("tuple")
            stack.pop("name")
            kinds.append("object")
        case "BUILD":
            stack.pop("tuple")
            stack.pop("object")
            kinds.append("object")
        case _:
            raise pickle.UnpicklingError(f"it has the opcode {name}, which is not expected here")
