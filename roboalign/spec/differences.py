"""The single values in which two plain values differ, as lines of text."""

import json
from typing import Any


def differences(old: Any, new: Any, path: str) -> list[str]:
    """The single values in which two sections differ: `rollout.decodings.swr.window 6 → 12`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*new, *(key for key in old if key not in new)]
        missing = object()
        found = []
        for key in keys:
            was, now = old.get(key, missing), new.get(key, missing)
            where = f"{path}.{key}" if path else str(key)
            if was is missing:
                found.append(f"{where} added")
            elif now is missing:
                found.append(f"{where} removed")
            else:
                found += differences(was, now, where)
        return found
    lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    if lists and any(isinstance(item, (dict, list)) for item in [*old, *new]):
        return [d for n, (a, b) in enumerate(zip(old, new, strict=True)) for d in differences(a, b, f"{path}.{n}")]
    return [] if old == new else [f"{path} {brief(old)} → {brief(new)}"]


def brief(value: Any) -> str:
    """A value in a line of text."""
    text = "null" if value is None else json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 60 else text[:57] + "…"
