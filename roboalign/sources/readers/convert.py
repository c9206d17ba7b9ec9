"""From an episode as a data set holds it to an `Episode`: filter, stride, actions, pictures, scene."""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.pictures import frame
from roboalign.sources.readers.reader import Damaged, LeftOut, Raw, require_key
from roboalign.sources.readers.spec import ActionKeySpec, DatasetSpec, VectorKeySpec
from roboalign.sources.readers.text import check_text
from roboalign.types import Episode, Float32, UInt8


def convert(raw: Raw, spec: DatasetSpec, source: str) -> Episode | LeftOut | Damaged:
    """The episode, in the split `train` until all scenes are known; or why it is not taken."""
    try:
        if raw.length == 0:
            raise DamagedError("it is empty: it has no steps")
        unwanted = left_out(raw, spec)
        if unwanted:
            return LeftOut(unwanted)
        # Only now: data sets whose episodes are not all annotated tell so in an attribute, for the filter.
        if not raw.instruction.strip():
            raise DamagedError(
                f"its instruction '{spec.instruction_field}' is missing or empty; "
                "`filter: {instruction: .}` leaves such episodes out"
            )
        for text, what in ((raw.name, "its name"), (raw.instruction, "its instruction"), (raw.task, "its task")):
            check_text(text, what)
        steps = range(0, raw.length, spec.stride)
        actions = join_actions(raw.columns, spec, raw.length)
        proprioception = join_proprioception(raw.columns, spec, raw.length)
        frames = read_frames(raw, spec, steps)
        return Episode(
            id=f"{source}/{raw.name}",
            source=source,
            task=raw.task or raw.instruction,
            instruction=raw.instruction.strip(),
            policy="unknown",
            scene=scene(raw, spec, frames[0]),
            split="train",
            frames=frames,
            actions=actions,
            proprioception=proprioception,
        )
    except DamagedError as error:
        return Damaged(raw.name, str(error))


def read_frames(raw: Raw, spec: DatasetSpec, steps: Sequence[int]) -> UInt8:
    """The frames (len(steps), height, width, 3) of these steps, each camera in its cell. Raises DamagedError."""
    cameras: list[UInt8] = []
    for pictures, tile in zip((raw.pictures, *raw.further_pictures), spec.tiles, strict=True):
        image = spec.image.model_copy(update={"height": tile.height, "width": tile.width})
        cells = [frame(picture, image) for picture in pictures(steps)]
        if len(cells) != len(steps):
            raise DamagedError(f"{len(cells)} of its {len(steps)} pictures can be read")
        cameras.append(np.stack(cells))
    if len(cameras) == 1:
        return cameras[0]
    # Only now that all could be decoded: a false length must not ask for memory.
    frames = np.zeros((len(steps), *spec.image_size, 3), np.uint8)
    for tile, cells_of_camera in zip(spec.tiles, cameras, strict=True):
        frames[:, *tile.area] = cells_of_camera
    return frames


def left_out(raw: Raw, spec: DatasetSpec) -> str:
    """The field of the spec that leaves an episode out, or ''. Raises DamagedError if an attribute is missing."""
    chosen = spec.filter
    length = -(-raw.length // spec.stride)
    if length < spec.length:
        return "length"
    if chosen.longest and length > chosen.longest:
        return "filter.longest"
    instruction = raw.instruction.strip()
    if chosen.instruction and not re.search(chosen.instruction, instruction, re.IGNORECASE):
        return "filter.instruction"
    if chosen.without and re.search(chosen.without, instruction, re.IGNORECASE):
        return "filter.without"
    for key, pattern in chosen.attributes.items():
        require_key(raw.attributes, key, "attribute")
        if not re.search(pattern, raw.attributes[key]):
            return f"filter.attributes.{key}"
    return ""


def join_actions(columns: Mapping[str, Float32], spec: DatasetSpec, length: int) -> Float32:
    """The actions (frames, action_width) of the frames that the stride keeps. Raises DamagedError."""
    parts = [apply_stride(read_column(columns, entry, "action", length), entry, spec.stride) for entry in spec.actions]
    actions = np.concatenate(parts, axis=1)
    if actions.shape[1] != spec.action_width:
        raise DamagedError(f"its actions have width {actions.shape[1]}, but action_width is {spec.action_width}")
    return actions


def join_proprioception(columns: Mapping[str, Float32], spec: DatasetSpec, length: int) -> Float32 | None:
    """The proprioception (frames, proprioception_width) at the frames that the stride keeps; None if the spec names no
    columns. Raises DamagedError."""
    if not spec.proprioception:
        return None
    parts = [read_column(columns, entry, "proprioception", length)[:: spec.stride] for entry in spec.proprioception]
    values = np.concatenate(parts, axis=1)
    if values.shape[1] != spec.proprioception_width:
        raise DamagedError(
            f"its proprioception has width {values.shape[1]}, but proprioception_width is {spec.proprioception_width}"
        )
    return values


def read_column(columns: Mapping[str, Float32], entry: VectorKeySpec, what: str, length: int) -> Float32:
    """The entries (length, width) of a column that a spec takes; `what` names the vector that it is a part of.

    Raises DamagedError if the column is missing, of another length or width, or not finite.
    """
    require_key(columns, entry.key, f"{what} column")
    values = np.asarray(columns[entry.key], np.float32)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != length:
        raise DamagedError(f"its {what} '{entry.key}' has shape {values.shape}, not one row for each of {length} steps")
    if entry.columns:
        if max(entry.columns) >= values.shape[1]:
            raise DamagedError(f"its {what} '{entry.key}' has width {values.shape[1]}, no column {max(entry.columns)}")
        values = values[:, list(entry.columns)]
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        raise DamagedError(f"its {what} '{entry.key}' is NaN or infinite at step {bad[0]}")
    return values


def apply_stride(values: Float32, entry: ActionKeySpec, stride: int) -> Float32:
    """(length, A) → (ceil(length / stride), A): what the actions between two kept frames amount to."""
    if stride == 1:
        return values
    starts = np.arange(0, len(values), stride)
    match entry.skipped:
        case "sum":
            return np.add.reduceat(values, starts, axis=0).astype(np.float32)
        case "mean":
            counts = np.diff(np.append(starts, len(values)))
            return (np.add.reduceat(values, starts, axis=0) / counts[:, None]).astype(np.float32)
        case "last":
            return np.asarray(values[np.minimum(starts + stride, len(values)) - 1])


def scene(raw: Raw, spec: DatasetSpec, first_frame: UInt8) -> str:
    """The name of the group that must stay within one split: by default, the hash of the first frame of the recording,
    which a stretch of one shares with the others. Raises DamagedError if an attribute is missing."""
    split = spec.split
    if split.by == "instruction":
        return hash_text(raw.instruction.strip().lower())
    if split.scene is None:
        opening = first_frame if raw.recording is None else read_frames(raw.recording, spec, [0])[0]
        return hashlib.blake2b(opening.tobytes(), digest_size=8).hexdigest()
    require_key(raw.attributes, split.scene, "attribute")
    text = raw.attributes[split.scene]
    check_text(text, f"its attribute '{split.scene}'")
    if split.scene_pattern:
        found = re.search(split.scene_pattern, text)
        if not found or found.group(1) is None:
            raise DamagedError(f"its attribute '{split.scene}' is '{text}', in which split.scene_pattern finds nothing")
        text = found.group(1)
    return hash_text(text)


def hash_text(text: str) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
