"""Converts recorded episodes to `Episode`: filter, stride, actions, frames, scene."""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.image_transform import transform_image
from roboalign.sources.readers.reader import Damaged, LeftOut, RawEpisode, require_key
from roboalign.sources.readers.spec import ActionKeySpec, DatasetSpec, VectorKeySpec
from roboalign.sources.readers.text import check_text
from roboalign.types import Episode, Float32, UInt8


def convert(raw: RawEpisode, spec: DatasetSpec, source: str) -> Episode | LeftOut | Damaged:
    """Convert an episode, or return why it is left out or damaged.

    The split is `train` until all scenes are known.
    """
    try:
        if raw.length == 0:
            raise DamagedError("it is empty: it has no steps")
        field = excluding_field(raw, spec)
        if field:
            return LeftOut(field)
        # Checked after the filter, which can exclude episodes that are marked as not annotated.
        if not raw.instruction.strip():
            raise DamagedError(
                f"its instruction '{spec.instruction_field}' is missing or empty; "
                "`filter: {instruction: .}` leaves such episodes out"
            )
        for text, description in ((raw.name, "its name"), (raw.instruction, "its instruction"), (raw.task, "its task")):
            check_text(text, description)
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
            scene=scene_name(raw, spec, frames[0]),
            split="train",
            frames=frames,
            actions=actions,
            proprioception=proprioception,
        )
    except DamagedError as error:
        return Damaged(raw.name, str(error))


def read_frames(raw: RawEpisode, spec: DatasetSpec, steps: Sequence[int]) -> UInt8:
    """Return the frames (len(steps), height, width, 3) of these steps, each camera in its cell. Raises DamagedError."""
    cameras: list[UInt8] = []
    for images, tile in zip((raw.images, *raw.further_images), spec.tiles, strict=True):
        cell_spec = spec.image.model_copy(update={"height": tile.height, "width": tile.width})
        cells = [transform_image(image, cell_spec) for image in images(steps)]
        if len(cells) != len(steps):
            raise DamagedError(f"{len(cells)} of its {len(steps)} images can be read")
        cameras.append(np.stack(cells))
    if len(cameras) == 1:
        return cameras[0]
    # Allocated only after all images are decoded, so that a wrong length cannot exhaust memory.
    frames = np.zeros((len(steps), *spec.image_size, 3), np.uint8)
    for tile, cells_of_camera in zip(spec.tiles, cameras, strict=True):
        frames[:, *tile.area] = cells_of_camera
    return frames


def excluding_field(raw: RawEpisode, spec: DatasetSpec) -> str:
    """Return the field of the spec that leaves an episode out, or ''. Raises DamagedError if an attribute is
    missing."""
    episode_filter = spec.filter
    length = -(-raw.length // spec.stride)
    if length < spec.length:
        return "length"
    if episode_filter.longest and length > episode_filter.longest:
        return "filter.longest"
    instruction = raw.instruction.strip()
    if episode_filter.instruction and not re.search(episode_filter.instruction, instruction, re.IGNORECASE):
        return "filter.instruction"
    if episode_filter.without and re.search(episode_filter.without, instruction, re.IGNORECASE):
        return "filter.without"
    for key, pattern in episode_filter.attributes.items():
        require_key(raw.attributes, key, "attribute")
        if not re.search(pattern, raw.attributes[key]):
            return f"filter.attributes.{key}"
    return ""


def join_actions(columns: Mapping[str, Float32], spec: DatasetSpec, length: int) -> Float32:
    """Return the actions (frames, action_width) of the frames that the stride keeps.

    Raises DamagedError if a column is missing, has a wrong shape, or is not finite.
    """
    parts = [apply_stride(read_column(columns, entry, "action", length), entry, spec.stride) for entry in spec.actions]
    actions = np.concatenate(parts, axis=1)
    if actions.shape[1] != spec.action_width:
        raise DamagedError(f"its actions have width {actions.shape[1]}, but action_width is {spec.action_width}")
    return actions


def join_proprioception(columns: Mapping[str, Float32], spec: DatasetSpec, length: int) -> Float32 | None:
    """Return the proprioception (frames, proprioception_width) at the frames that the stride keeps; None if the spec
    names no columns.

    Raises DamagedError if a column is missing, has a wrong shape, or is not finite.
    """
    if not spec.proprioception:
        return None
    parts = [read_column(columns, entry, "proprioception", length)[:: spec.stride] for entry in spec.proprioception]
    values = np.concatenate(parts, axis=1)
    if values.shape[1] != spec.proprioception_width:
        raise DamagedError(
            f"its proprioception has width {values.shape[1]}, but proprioception_width is {spec.proprioception_width}"
        )
    return values


def read_column(columns: Mapping[str, Float32], entry: VectorKeySpec, vector: str, length: int) -> Float32:
    """Return the dimensions (length, width) of a column that a spec selects.

    Args:
        columns: Columns of the episode.
        entry: The column and its dimensions.
        vector: Name of the vector that the column is a part of, for messages.
        length: Number of recorded steps.

    Raises DamagedError if the column is missing, has a wrong shape, or is not finite.
    """
    require_key(columns, entry.key, f"{vector} column")
    values = np.asarray(columns[entry.key], np.float32)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != length:
        raise DamagedError(
            f"its {vector} '{entry.key}' has shape {values.shape}, not one row for each of {length} steps"
        )
    if entry.columns:
        if max(entry.columns) >= values.shape[1]:
            raise DamagedError(
                f"its {vector} '{entry.key}' has width {values.shape[1]}, no column {max(entry.columns)}"
            )
        values = values[:, list(entry.columns)]
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        raise DamagedError(f"its {vector} '{entry.key}' is NaN or infinite at step {bad[0]}")
    return values


def apply_stride(values: Float32, entry: ActionKeySpec, stride: int) -> Float32:
    """Combine the actions (length, A) between kept frames: (ceil(length / stride), A)."""
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


def scene_name(raw: RawEpisode, spec: DatasetSpec, first_frame: UInt8) -> str:
    """Return the name of the group that stays within one split.

    By default this is the hash of the first recorded frame, which segments of one recording share. Raises DamagedError
    if an attribute is missing.
    """
    split = spec.split
    if split.by == "instruction":
        return hash_text(raw.instruction.strip().lower())
    if split.scene is None:
        initial_frame = first_frame if raw.recording is None else read_frames(raw.recording, spec, [0])[0]
        return hashlib.blake2b(initial_frame.tobytes(), digest_size=8).hexdigest()
    require_key(raw.attributes, split.scene, "attribute")
    text = raw.attributes[split.scene]
    check_text(text, f"its attribute '{split.scene}'")
    if split.scene_pattern:
        match = re.search(split.scene_pattern, text)
        if not match or match.group(1) is None:
            raise DamagedError(f"its attribute '{split.scene}' is '{text}', which split.scene_pattern does not match")
        text = match.group(1)
    return hash_text(text)


def hash_text(text: str) -> str:
    """Return a hash of 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
