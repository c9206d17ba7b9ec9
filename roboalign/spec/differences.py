"""Differences between two nested plain values, as lines of text."""

import json
from typing import Any


def differences(old: Any, new: Any, path: str) -> list[str]:
    """One line for each single value that differs: `rollout.decodings.swr.window 6 → 12`, `… added`, `… removed`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*new, *(key for key in old if key not in new)]
        missing = object()
        lines = []
        for key in keys:
            before, after = old.get(key, missing), new.get(key, missing)
            field = f"{path}.{key}" if path else str(key)
            if before is missing:
                lines.append(f"{field} added")
            elif after is missing:
                lines.append(f"{field} removed")
            else:
                lines += differences(before, after, field)
        return lines
    lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    if lists and any(isinstance(item, (dict, list)) for item in [*old, *new]):
        return [d for n, (a, b) in enumerate(zip(old, new, strict=True)) for d in differences(a, b, f"{path}.{n}")]
    return [] if old == new else [f"{path} {brief(old)} → {brief(new)}"]


def brief(value: Any) -> str:
    """A value as text of at most 60 characters."""
    text = "null" if value is None else json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 60 else text[:57] + "…"
