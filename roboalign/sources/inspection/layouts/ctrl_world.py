"""Recognises Ctrl-World's videos by their JSON annotations."""

from itertools import groupby

from roboalign.sources.errors import DamagedError
from roboalign.sources.inspection.layouts.layout import Column, Layout, pick_actions
from roboalign.sources.inspection.layouts.videos import probe_video
from roboalign.sources.inspection.summary import shorten
from roboalign.sources.readers.ctrl_world import first_text, is_table, read_annotation, video_paths
from roboalign.sources.readers.files import Files
from roboalign.types import Json

LOOKED_FOR = "annotation/*/*.json that list videos (Ctrl-World)"
FIRST = 5
"""Largest number of annotations that are tried until one can be read."""


def recognise(files: Files) -> Layout | None:
    """Return the layout of the first annotation that lists videos, or None. Raises SourceError if a video cannot be
    opened."""
    paths = files.find("annotation/*/*.json") or files.find("annotation/*.json")
    subsets = {folder: list(group) for folder, group in groupby(paths, lambda path: path.rpartition("/")[0])}
    subset = next((folder for folder in subsets if folder.endswith("/train")), next(iter(subsets), ""))
    for path in subsets.get(subset, [])[:FIRST]:
        try:
            annotation = read_annotation(files, path)
            videos = video_paths(annotation)
        except DamagedError:
            continue
        if videos:
            return describe(files, annotation, videos, subset, len(subsets[subset]))
    return None


def describe(files: Files, annotation: dict[str, Json], videos: dict[str, str], subset: str, count: int) -> Layout:
    """Return the layout of an annotation. Raises SourceError if one of its videos cannot be opened."""
    cameras, rate = [], 0.0
    for name, path in videos.items():
        size, video_rate = probe_video(files, path, "video_path")
        cameras.append(Column(name, f"{size} at {video_rate:g} frames per second"))
        rate = rate or video_rate
    tables = {key: value for key, value in annotation.items() if is_table(value)}
    vectors = [
        Column(key, f"{len(rows)} rows", len(rows[0]) if isinstance(rows[0], list) else 1)
        for key, rows in tables.items()
    ]
    texts = [Column(key, f'"{shorten(text, 60)}"') for key, value in annotation.items() if (text := first_text(value))]
    picked = pick_actions(vectors)
    comments: dict[str, str] = {}
    if not picked and "states" in tables:
        picked = ["states"]
        comments["actions"] = "The annotations contain no commands; the resulting states are used in their place."
    frames = len(tables.get("states", ()))
    rows = max((len(tables[key]) for key in picked), default=0)
    per_frame = round(rows / frames) if frames else 1
    chosen: dict[str, Json] = {} if subset == "annotation/train" else {"annotations": subset}
    chosen["fps"] = round(rate, 6)
    if per_frame > 1:
        chosen |= {"rows_per_frame": per_frame, "stride": per_frame}
        comments["rows_per_frame"] = f"{frames} frames, but {rows} rows of {picked[0]}; `stride` counts rows."
    what = f"Ctrl-World's videos with annotations, {count} of them in {subset}"
    return Layout("ctrl_world", what, cameras, vectors, texts, chosen, picked, comments)
