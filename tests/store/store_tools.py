from pathlib import Path

import numpy as np

from roboalign.store import EpisodeWriter, StorageSpec
from roboalign.types import Episode, UInt8


def write(folder: Path, episodes: list[Episode], *, fps: float = 10, storage: StorageSpec | None = None) -> Path:
    """A store of the episodes."""
    with EpisodeWriter(folder, fps=fps, storage=storage) as writer:
        for episode in episodes:
            writer.add(episode)
    return folder


def enlarged(frames: UInt8, factor: int) -> UInt8:
    """Frames with every pixel repeated, so that video keeps them nearly as they are."""
    return np.repeat(np.repeat(frames, factor, axis=1), factor, axis=2)
