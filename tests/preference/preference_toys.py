"""A small experiment with rollouts of three models, and its study."""

from pathlib import Path

import numpy as np

from roboalign.evaluation.clips import ClipSet, read_clip_sets
from roboalign.io import write_json
from roboalign.store import EpisodeWriter
from roboalign.types import Episode

MODELS = ("supervised.ar.greedy", "supervised.swr.greedy", "aligned.swr.greedy")


def write_rollouts(folder: Path, episodes: list[Episode]) -> dict[str, ClipSet]:
    """Clip sets of MODELS of the episodes, in the layout of the rollout stage; each model has its own brightness."""
    index = []
    for level, name in enumerate(MODELS, 1):
        with EpisodeWriter(folder / name, fps=5) as writer:
            for e in episodes:
                frames = np.clip(e.frames[:6] + np.uint8(20 * level), 0, 255)
                writer.add(
                    Episode(e.id, e.source, e.task, e.instruction, e.policy, e.scene, e.split, frames, e.actions[:6])
                )
        model, decoding, sampling = name.split(".")
        ids = [episode.id for episode in episodes]
        parts = {"model": model, "decoding": decoding, "sampling": sampling}
        index.append({"name": name, "folder": name, "episodes": ids, "samples": [0] * len(ids), **parts})
    write_json(folder / "index.json", index)
    return read_clip_sets(folder)
