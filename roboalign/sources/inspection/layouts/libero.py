"""Recognises the HDF5 files of LIBERO and robomimic by the group `data` with demonstrations."""

from collections.abc import Sequence

from roboalign.sources.errors import DamagedError
from roboalign.sources.inspection.layouts.layout import Column, Layout, file_words, format_shape, pick_actions
from roboalign.sources.inspection.summary import shorten
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.hdf5 import PATTERNS, UNREADABLE, data_sets, member
from roboalign.sources.readers.libero import attributes, demonstrations, open_demonstrations

LIBERO_CAMERAS = ("obs/agentview_rgb", "obs/eye_in_hand_rgb")
"""Camera names of LIBERO; robomimic calls its first camera agentview_image."""
FIRST = 20
"""Largest number of files whose names are searched for an instruction."""
LOOKED_FOR = "**/*.hdf5 or **/*.h5 with data/demo_* (LIBERO, robomimic)"


def recognise(files: Files) -> Layout | None:
    """Return the layout of the first readable file, or None. Raises SourceError if the connection is lost."""
    paths = [path for pattern in PATTERNS for path in files.find(pattern)]
    for path in sorted(paths)[:5]:
        try:
            return describe(files, path, paths)
        except (DamagedError, *UNREADABLE):
            continue
    return None


def describe(files: Files, path: str, paths: Sequence[str]) -> Layout:
    """Return the layout of a file. Raises DamagedError if the file has another layout."""
    with open_demonstrations(files, path) as (file, _):
        names = demonstrations(file)
        data = member(file, "data")
        group = member(data, names[0])
        all_arrays = {key: array for key, array in data_sets(group).items() if not key.startswith("next_obs/")}
        arrays = {key: array for key, array in all_arrays.items() if not array.is_virtual and array.shape}
        data_attributes = attributes(data)
        texts = {
            key: text
            for key, text in (data_attributes | attributes(group)).items()
            if " " in text.strip() and len(text) < 300
        }
        cameras = [
            Column(key, format_shape(array.shape[1:3]))
            for key, array in arrays.items()
            if array.ndim == 4 and array.shape[3] == 3 and array.dtype == "uint8"
        ]
        vectors = [
            Column(
                key, f"{format_shape(array.shape[1:]) or 1} of {array.dtype}", array.shape[1] if array.ndim == 2 else 1
            )
            for key, array in arrays.items()
            if array.ndim in (1, 2) and array.dtype.kind in "iuf"
        ]
    # LIBERO replays its demonstrations and renders upside down after each action; robomimic renders upright before it.
    # The script that filters LIBERO's no-ops also replays them but renders before the action, and declares neither.
    replayed = "bddl_file_name" in data_attributes
    described_env = any(key.startswith("env_args") for key in data_attributes)
    of_libero = replayed or (not described_env and any(key in LIBERO_CAMERAS for key in arrays))
    chosen: dict[str, bool | float] = {
        "upside_down": data_attributes.get("macros_image_convention", "opengl" if of_libero else "opencv") == "opengl",
        "after_action": replayed,
        "fps": float(data_attributes.get("env_args/env_kwargs/control_freq", 20)),
    }
    picked = pick_actions(vectors)
    count = len(paths)
    has_rate = "env_args/env_kwargs/control_freq" in data_attributes
    comments = {} if has_rate else {"fps": "The files do not contain the frame rate; this is a guess."}
    comments["upside_down"] = "Check the orientation on the contact sheet (--sheet sheet.png)."
    what = f"HDF5 in {'LIBERO' if of_libero else 'robomimic'}'s layout, {count} file{'s'[: count != 1]}"
    return Layout(
        "libero", what, cameras, vectors,
        [Column(key, f'"{shorten(text, 60)}"') for key, text in texts.items()], chosen, picked, comments,
        file_words(sorted(paths)[:FIRST]),
    )  # fmt: skip
