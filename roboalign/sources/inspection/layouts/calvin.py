"""Recognises CALVIN by its language annotations."""

from typing import Literal

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.inspection.layouts.layout import Column, Layout, format_shape
from roboalign.sources.inspection.summary import shorten
from roboalign.sources.readers.arrays import BAD_ARRAY
from roboalign.sources.readers.calvin import Calvin, step_number
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.pickled import read_pickled
from roboalign.sources.readers.spec import ActionKeySpec, CalvinSpec

ANNOTATIONS = "lang_annotations/auto_lang_ann.npy"
SUBSETS: tuple[Literal["training", "validation"], ...] = ("training", "validation")
LOOKED_FOR = f"training/{ANNOTATIONS} or validation/{ANNOTATIONS} (CALVIN)"
FIRST = 20
"""Largest number of annotations that are tried until the first step of one can be read."""


def recognise(files: Files) -> Layout | None:
    """Return the layout of the first readable annotated step, or None if there are no annotations.

    Raises SourceError if no annotated step can be read.
    """
    subset = next((name for name in SUBSETS if files.exists(f"{name}/{ANNOTATIONS}")), None)
    if subset is None:
        return None
    try:
        with files.open(f"{subset}/{ANNOTATIONS}") as file:
            language = read_pickled(file)["language"]
        texts = [
            Column(str(key), f'"{shorten(values[0], 60)}"')
            for key, values in language.items()
            if len(values) and isinstance(values[0], str) and key != "task"
        ]
    except (DamagedError, *BAD_ARRAY) as error:
        raise SourceError(f"{files.uri}/{subset}/{ANNOTATIONS} cannot be read: {error}") from None
    if not texts:
        raise SourceError(f"{files.uri}/{subset}/{ANNOTATIONS} has no list of instructions")
    spec = CalvinSpec(
        kind="calvin", uri=files.uri, camera="rgb_static", instruction=texts[0].key, subset=subset,
        actions=(ActionKeySpec(key="rel_actions"),), action_width=7,
    )  # fmt: skip
    reader = Calvin(spec, files)
    problem = "there are no annotations"
    for segment in reader.segments[:FIRST]:
        try:
            arrays = reader.step(step_number(segment.first), ())
        except DamagedError as error:
            problem = str(error)
            continue
        cameras = [
            Column(key, format_shape(array.shape[:2]))
            for key, array in arrays.items()
            if array.ndim == 3 and array.shape[2] == 3 and array.dtype == "uint8"
        ]
        vectors = [
            Column(key, f"{len(array)} of {array.dtype}", len(array))
            for key, array in arrays.items()
            if array.ndim == 1 and array.dtype.kind in "iuf"
        ]
        picked = [key for key in ("rel_actions", "actions") if any(column.key == key for column in vectors)][:1]
        environments = f"; its environments are {', '.join(sorted(reader.scenes))}" if reader.scenes else ""
        what = f"CALVIN, {len(reader.segments)} annotated segments in {subset}/{environments}"
        chosen = {} if subset == "training" else {"subset": subset}
        return Layout("calvin", what, cameras, vectors, texts, chosen, picked)
    raise SourceError(f"{files.uri}: no step of the first {FIRST} annotations can be read; {problem}")
