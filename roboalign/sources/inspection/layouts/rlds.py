"""Recognising RLDS by the `features.json` that TensorFlow Datasets writes."""

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.inspection.layouts.layout import Column, Layout, pick_actions, shape
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.rlds_features import Leaf, parse
from roboalign.sources.readers.text import parse_json

LOOKED_FOR = "features.json (RLDS by TensorFlow Datasets)"


def recognise(files: Files) -> Layout | None:
    """The layout, or None. Raises SourceError if `features.json` is there but not readable."""
    folder = ""
    if not files.exists("features.json"):
        versions = files.find("*/features.json")
        if len(versions) != 1:
            return None
        folder = versions[0].removesuffix("features.json")
    name = f"{files.uri}: {folder}features.json"
    try:
        found = parse(parse_json(files.bytes(f"{folder}features.json")), name)
    except (DamagedError, ValueError, RecursionError) as error:
        raise SourceError(f"{name} is not JSON: {error}") from None
    cameras = [
        Column(key, shape(leaf.shape[:2]) if leaf.shape else "")
        for key, leaf in found.steps.items()
        if is_picture(leaf)
    ]
    vectors = [
        Column(key, f"{leaf.size} of {leaf.dtype}", leaf.size)
        for key, leaf in found.steps.items()
        if leaf.numeric and 0 < leaf.size <= 64 and not leaf.nested and key != "is_first"
    ]
    vectors = [column for column in vectors if not column.key.startswith("is_")]
    texts = [
        Column(key, leaf.kind)
        for key, leaf in (found.steps | found.episode).items()
        if leaf.textual and not leaf.nested and "embedding" not in key
    ]
    picked = pick_actions(vectors)
    subsets = splits(files, folder)
    chosen: dict[str, str | float] = {} if "train" in subsets or not subsets else {"subset": subsets[0]}
    return Layout(
        "rlds", f"RLDS as TensorFlow Datasets writes it, with the splits {', '.join(subsets) or 'unknown'}",
        cameras, vectors, texts, chosen | {"fps": 10}, picked,
        {"fps": "RLDS does not tell the frame rate, so this is a guess: look it up in the data set's paper."},
    )  # fmt: skip


def is_picture(leaf: Leaf) -> bool:
    """Whether a feature is a colour picture."""
    colour = not leaf.shape or (len(leaf.shape) == 3 and leaf.shape[2] == 3)
    fixed = leaf.kind == "image" or (leaf.numeric and leaf.dtype == "uint8" and leaf.size > 0)
    return colour and fixed and not leaf.nested


def splits(files: Files, folder: str) -> list[str]:
    """The names of the data set's own splits."""
    try:
        return [str(split["name"]) for split in parse_json(files.bytes(f"{folder}dataset_info.json"))["splits"]]
    except (DamagedError, OSError, ValueError, KeyError, TypeError):
        return []
