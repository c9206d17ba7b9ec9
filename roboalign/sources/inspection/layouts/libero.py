"""Recognising LIBERO's and robomimic's HDF5 by the group `data` with demonstrations."""

from collections.abc import Sequence

from roboalign.sources.errors import DamagedError
from roboalign.sources.inspection.layouts.layout import Column, Layout, file_words, pick_actions, shape
from roboalign.sources.inspection.summary import cut
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.hdf5 import PATTERNS, UNREADABLE, data_sets, member
from roboalign.sources.readers.libero import attributes, demonstrations, open_demonstrations

OWN_CAMERAS = ("obs/agentview_rgb", "obs/eye_in_hand_rgb")
"""LIBERO's names of its cameras; robomimic's is agentview_image."""
FIRST = 20
"""Files whose names are looked at."""
LOOKED_FOR = "**/*.hdf5 or **/*.h5 with data/demo_* (LIBERO, robomimic)"


def recognise(files: Files) -> Layout | None:
    """The layout by the first file that can be read, or None. Raises SourceError if the connection is lost."""
    paths = [path for pattern in PATTERNS for path in files.find(pattern)]
    for path in sorted(paths)[:5]:
        try:
            return describe(files, path, paths)
        except (DamagedError, *UNREADABLE):
            continue
    return None


def describe(files: Files, path: str, paths: Sequence[str]) -> Layout:
    """The layout of a file. Raises DamagedError if it is another one."""
    with open_demonstrations(files, path) as (file, _):
        names = demonstrations(file)
        data = member(file, "data")
        group = member(data, names[0])
        found = {key: array for key, array in data_sets(group).items() if not key.startswith("next_obs/")}
        arrays = {key: array for key, array in found.items() if not array.is_virtual and array.shape}
        own = attributes(data)
        texts = {
            key: text for key, text in (own | attributes(group)).items() if " " in text.strip() and len(text) < 300
        }
        cameras = [
            Column(key, shape(array.shape[1:3]))
            for key, array in arrays.items()
            if array.ndim == 4 and array.shape[3] == 3 and array.dtype == "uint8"
        ]
        vectors = [
            Column(key, f"{shape(array.shape[1:]) or 1} of {array.dtype}", array.shape[1] if array.ndim == 2 else 1)
            for key, array in arrays.items()
            if array.ndim in (1, 2) and array.dtype.kind in "iuf"
        ]
    # LIBERO replays its demonstrations and photographs after each action; robomimic before, and the right way up. The
    # script that filters LIBERO's no-ops replays them too, but photographs before, and does not say how.
    replayed = "bddl_file_name" in own
    described_env = any(key.startswith("env_args") for key in own)
    of_libero = replayed or (not described_env and any(key in OWN_CAMERAS for key in arrays))
    chosen: dict[str, bool | float] = {
        "upside_down": own.get("macros_image_convention", "opengl" if of_libero else "opencv") == "opengl",
        "after_action": replayed,
        "fps": float(own.get("env_args/env_kwargs/control_freq", 20)),
    }
    picked = pick_actions(vectors)
    count = len(paths)
    told = "env_args/env_kwargs/control_freq" in own
    comments = {} if told else {"fps": "The files do not tell the frame rate, so this is a guess."}
    comments["upside_down"] = "EpisodePreview at the contact sheet: --sheet sheet.png."
    what = f"HDF5 in {'LIBERO' if of_libero else 'robomimic'}'s layout, {count} file{'s'[: count != 1]}"
    return Layout(
        "libero", what, cameras, vectors,
        [Column(key, f'"{cut(text, 60)}"') for key, text in texts.items()], chosen, picked, comments,
        file_words(sorted(paths)[:FIRST]),
    )  # fmt: skip
