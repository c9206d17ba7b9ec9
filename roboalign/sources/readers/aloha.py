"""Reads ALOHA's HDF5 files, one episode each."""

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.columns import STEPS, VALUES, Columns, as_image
from roboalign.sources.readers.encoded import decode
from roboalign.sources.readers.file_episodes import FileEpisodes
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.hdf5 import PATTERNS, check_image_size, check_storage, data_sets, open_hdf5
from roboalign.sources.readers.libero import attributes
from roboalign.sources.readers.reader import RawEpisode, require_key
from roboalign.sources.readers.spec import AlohaSpec
from roboalign.sources.readers.text import decode_text
from roboalign.types import UInt8

CAMERAS = "observations/images/"
"""Group of the images."""


class Aloha(FileEpisodes):
    """Reads the episodes of all HDF5 files below a folder."""

    def __init__(self, spec: AlohaSpec, files: Files) -> None:
        super().__init__(files, PATTERNS, spec.fps, self.read_file)
        self.spec, self.files = spec, files
        self.camera = spec.cameras[0]

    def read_file(self, path: str) -> RawEpisode:
        """Read the episode of a file; columns and images are loaded on demand. Raises DamagedError."""
        with open_hdf5(self.files, path) as (file, _):
            arrays = data_sets(file)
            for name in sorted({self.camera, *self.spec.vector_keys} & set(arrays)):
                check_storage(arrays[name], name)
            # Virtual and external data sets are skipped: even querying their shape would open other files.
            arrays = {name: array for name, array in arrays.items() if not (array.is_virtual or array.external)}
            shapes: dict[str, tuple[int, ...]] = {key: array.shape or () for key, array in arrays.items()}
            numeric = [key for key, array in arrays.items() if array.ndim in (1, 2) and array.dtype.kind in "biuf"]
            attributes_of_file = {"file": path, "folder": str(PurePosixPath(path).parent)} | attributes(file)
            attributes_of_file |= {key: text_of(array[()]) for key, array in arrays.items() if is_single_text(array)}
        first = self.spec.actions[0].key
        # An episode without images still has a length and may be left out by the filter.
        key = first if first in shapes else self.camera
        require_key(shapes, key, "action column")
        length = shapes[key][0] if shapes[key] else 0
        if length > STEPS:
            raise DamagedError(f"its '{key}' has {length} rows, more than {STEPS}")

        def column(name: str) -> Any:
            if shapes[name][0] != length:
                raise DamagedError(f"its '{name}' has {shapes[name][0]} rows, but there are {length} of '{key}'")
            if (count := math.prod(shapes[name])) > VALUES:
                raise DamagedError(f"its '{name}' has {count} numbers, more than {VALUES}")
            with open_hdf5(self.files, path) as (file, _):
                return file[name][()]

        def images(steps: Sequence[int]) -> Iterator[UInt8]:
            camera = self.camera
            require_key(shapes, camera, "camera")
            if not shapes[camera] or shapes[camera][0] != length:
                raise DamagedError(f"its '{camera}' has shape {shapes[camera]}, but there are {length} steps")
            check_image_size(shapes[camera], camera)
            size: Sequence[int] = (-1, -1)
            with open_hdf5(self.files, path) as (file, _):
                for step in steps:
                    image = image_of(file[camera][step], camera, size, step)
                    size = image.shape[:2]
                    yield image[..., ::-1] if self.spec.swap_channels else image

        return RawEpisode(
            name=path,
            length=length,
            images=images,
            columns=Columns([each for each in numeric if not each.startswith(CAMERAS)], column),
            instruction=attributes_of_file.get(self.spec.instruction_field, ""),
            attributes=attributes_of_file,
        )


def image_of(value: Any, camera: str, size: Sequence[int], step: int) -> UInt8:
    """Decode one step of an image data set: an array (H, W, 3), or the bytes of a JPEG or PNG. Raises DamagedError."""
    if isinstance(value, bytes):
        return decode(value, size, step)
    array = np.asarray(value)
    if array.dtype == np.uint8 and array.ndim == 1:
        return decode(array.tobytes(), size, step)
    return as_image(array, camera)


def is_single_text(array: Any) -> bool:
    """Whether a data set contains a single text."""
    return array.size == 1 and (h5py.check_string_dtype(array.dtype) is not None or array.dtype.kind == "S")


def text_of(value: Any) -> str:
    """Return the text of a data set that contains a single one."""
    text = np.asarray(value).ravel()[0]
    return decode_text(text) if isinstance(text, bytes) else str(text)
