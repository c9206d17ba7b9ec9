"""Recognises a LeRobotDataset by its `meta/info.json`."""

from typing import Any

from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.layouts.layout import Column, Layout, format_shape, pick_actions
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.lerobot_meta import open_meta

LOOKED_FOR = "meta/info.json (LeRobot 2.1 and 3)"
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Index columns, which are not proposed as actions."""


def recognise(files: Files) -> Layout | None:
    """Return the layout, or None if there is no `meta/info.json`. Raises SourceError if the file cannot be read."""
    if not files.exists("meta/info.json"):
        return None
    meta = open_meta(files)
    features = meta.features
    try:
        cameras = [
            Column(key, f"{image_size(value)} {value['dtype']}")
            for key, value in features.items()
            if value["dtype"] in ("image", "video")
        ]
        vectors = [
            Column(key, f"{value['shape'][0]} of {value['dtype']}", int(value["shape"][0]))
            for key, value in features.items()
            if value["dtype"].startswith(("float", "int")) and len(value["shape"]) == 1 and key not in INDEX_COLUMNS
        ]
        texts = [Column(key, "text") for key, value in features.items() if value["dtype"] == "string"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise SourceError(
            f"{files.uri}: meta/info.json is not a description of a LeRobotDataset ({type(error).__name__}: {error})"
        ) from None
    picked = pick_actions(vectors)
    total = "?" if meta.total is None else meta.total
    what = f"LeRobotDataset {meta.codebase}, {total} episodes at {meta.fps:g} frames per second"
    return Layout("lerobot", what, cameras, vectors, [Column("task", "from the task table"), *texts], {}, picked)


def image_size(feature: dict[str, Any]) -> str:
    """Format the height x width of a camera, whose feature may have the channels first."""
    sizes = [int(size) for size in feature["shape"]]
    if len(sizes) == 3 and sizes[0] in (1, 3) and sizes[2] not in (1, 3):
        sizes = sizes[1:]
    return format_shape(sizes[:2])
