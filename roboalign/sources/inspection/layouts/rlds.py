"""Recognises RLDS by the `features.json` that TensorFlow Datasets writes."""

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.inspection.layouts.layout import Column, Layout, format_shape, pick_actions
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.rlds_features import Leaf, parse
from roboalign.sources.readers.text import parse_json

LOOKED_FOR = "features.json (RLDS by TensorFlow Datasets)"


def recognise(files: Files) -> Layout | None:
    """Return the layout, or None if there is no `features.json`. Raises SourceError if the file cannot be read."""
    folder = ""
    if not files.exists("features.json"):
        versions = files.find("*/features.json")
        if len(versions) != 1:
            return None
        folder = versions[0].removesuffix("features.json")
    name = f"{files.uri}: {folder}features.json"
    try:
        features = parse(parse_json(files.bytes(f"{folder}features.json")), name)
    except (DamagedError, ValueError, RecursionError) as error:
        raise SourceError(f"{name} is not JSON: {error}") from None
    cameras = [
        Column(key, format_shape(leaf.shape[:2]) if leaf.shape else "")
        for key, leaf in features.steps.items()
        if is_image(leaf)
    ]
    vectors = [
        Column(key, f"{leaf.size} of {leaf.dtype}", leaf.size)
        for key, leaf in features.steps.items()
        if leaf.numeric and 0 < leaf.size <= 64 and not leaf.nested and key != "is_first"
    ]
    vectors = [column for column in vectors if not column.key.startswith("is_")]
    texts = [
        Column(key, leaf.kind)
        for key, leaf in (features.steps | features.episode).items()
        if leaf.textual and not leaf.nested and "embedding" not in key
    ]
    picked = pick_actions(vectors)
    subsets = splits(files, folder)
    chosen: dict[str, str | float] = {} if "train" in subsets or not subsets else {"subset": subsets[0]}
    return Layout(
        "rlds", f"RLDS of TensorFlow Datasets with the splits {', '.join(subsets) or 'unknown'}",
        cameras, vectors, texts, chosen | {"fps": 10}, picked,
        {"fps": "RLDS does not contain the frame rate; this is a guess: look it up in the data set's paper."},
    )  # fmt: skip


def is_image(leaf: Leaf) -> bool:
    """Whether a feature contains colour images."""
    colour = not leaf.shape or (len(leaf.shape) == 3 and leaf.shape[2] == 3)
    fixed = leaf.kind == "image" or (leaf.numeric and leaf.dtype == "uint8" and leaf.size > 0)
    return colour and fixed and not leaf.nested


def splits(files: Files, folder: str) -> list[str]:
    """Return the names of the data set's splits."""
    try:
        return [str(split["name"]) for split in parse_json(files.bytes(f"{folder}dataset_info.json"))["splits"]]
    except (DamagedError, OSError, ValueError, KeyError, TypeError):
        return []
