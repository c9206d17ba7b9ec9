"""Recognises ALOHA's HDF5 files by `observations/images` and `action`."""

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.inspection.layouts.layout import Column, Layout, file_words, format_shape, pick_actions
from roboalign.sources.inspection.summary import shorten
from roboalign.sources.readers.aloha import CAMERAS, image_of, is_single_text, text_of
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.hdf5 import PATTERNS, check_image_size, check_storage, data_sets, open_hdf5
from roboalign.sources.readers.libero import attributes

LOOKED_FOR = "**/*.hdf5 or **/*.h5 with observations/images (ALOHA)"
FIRST = 5
"""Largest number of files that are tried until one can be read."""


def recognise(files: Files) -> Layout | None:
    """Return the layout of the first file with cameras, or None. Raises SourceError if the connection is lost."""
    paths = sorted(path for pattern in PATTERNS for path in files.find(pattern))
    for path in paths[:FIRST]:
        try:
            if layout := describe(files, path, paths):
                return layout
        except DamagedError:
            continue
    return None


def describe(files: Files, path: str, paths: list[str]) -> Layout | None:
    """Return the layout of a file, or None if it has no cameras. Raises DamagedError if it cannot be read."""
    with open_hdf5(files, path) as (file, _):
        arrays = {key: each for key, each in data_sets(file).items() if not (each.is_virtual or each.external)}
        for key in arrays:
            if key.startswith(CAMERAS):
                check_storage(arrays[key], key)
                check_image_size(arrays[key].shape, key)
        cameras = [
            Column(key, format_shape(image_of(array[0], key, (-1, -1), 0).shape[:2]))
            for key, array in arrays.items()
            if key.startswith(CAMERAS) and array.ndim in (1, 2, 4) and len(array)
        ]
        if not cameras:
            return None
        vectors = [
            Column(
                key, f"{format_shape(array.shape[1:]) or 1} of {array.dtype}", array.shape[1] if array.ndim == 2 else 1
            )
            for key, array in arrays.items()
            if array.ndim in (1, 2) and np.dtype(array.dtype).kind in "iuf" and not key.startswith(CAMERAS)
        ]
        texts = attributes(file) | {key: text_of(array[()]) for key, array in arrays.items() if is_single_text(array)}
    instructions = [Column(key, f'"{shorten(text, 60)}"') for key, text in texts.items() if " " in text.strip()]
    what = f"HDF5 in ALOHA's layout, {len(paths)} file{'s'[: len(paths) != 1]} with one episode each"
    comments = {
        "swap_channels": "True if red and blue are swapped; check the contact sheet (--sheet sheet.png).",
        "fps": "The files do not contain the frame rate; ALOHA records at 50 Hz.",
    }
    return Layout(
        "aloha", what, cameras, vectors, instructions, {"swap_channels": False, "fps": 50}, pick_actions(vectors),
        comments, file_words(paths[:FIRST]),
    )  # fmt: skip
