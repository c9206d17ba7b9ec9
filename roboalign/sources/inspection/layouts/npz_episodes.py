"""Recognises a folder of `.npz` episodes by an array of images in them."""

from roboalign.sources.errors import DamagedError
from roboalign.sources.inspection.layouts.layout import Column, Layout, file_words, format_shape, pick_actions
from roboalign.sources.inspection.summary import shorten
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.npz_episodes import PATTERN, array_shapes, load_array, texts_of

LOOKED_FOR = "**/*.npz with images (T, H, W, 3) (iVideoGPT, RLVR-World)"
FIRST = 5
"""Largest number of files that are tried until one can be read."""


def recognise(files: Files) -> Layout | None:
    """Return the layout of the first file that contains images, or None."""
    paths = files.find(PATTERN)
    for path in paths[:FIRST]:
        try:
            shapes = array_shapes(files, path)
        except DamagedError:
            continue
        cameras = [
            Column(key, format_shape(sizes[1:3]))
            for key, (sizes, kind) in shapes.items()
            if len(sizes) == 4 and sizes[3] == 3 and kind == "u"
        ]
        if not cameras:
            continue
        length = shapes[cameras[0].key][0][0]
        vectors = [
            Column(key, f"{format_shape(sizes[1:]) or 1} numbers", sizes[1] if len(sizes) == 2 else 1)
            for key, (sizes, kind) in shapes.items()
            if len(sizes) in (1, 2) and sizes[0] == length and kind in "iuf"
        ]
        texts = [
            Column(key, f'"{first_words(files, path, key)}"')
            for key, (sizes, kind) in shapes.items()
            if len(sizes) <= 1 and kind in "US"
        ]
        what = f"{len(paths)} .npz file{'s'[: len(paths) != 1]} with one episode each"
        return Layout(
            "npz", what, cameras, vectors, texts, {"fps": 10}, pick_actions(vectors),
            {"fps": "The files do not contain the frame rate; this is a guess."}, file_words(paths[:FIRST]),
        )  # fmt: skip
    return None


def first_words(files: Files, path: str, key: str) -> str:
    """Return the start of the first text of an array."""
    return shorten(next(iter(texts_of(load_array(files, path, key))), ""), 60)
