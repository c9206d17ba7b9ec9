"""The files that the stage `policies` writes besides its metrics: success by episode, success by policy, and clips."""

from pathlib import Path
from typing import Any

import numpy as np

from roboalign.io import replacing
from roboalign.policies.results import MODELS, SIMULATOR, PolicyResults
from roboalign.types import Json

WORLDS = (SIMULATOR, *MODELS)
"""The worlds whose clips are kept."""


def episode_rows(results: PolicyResults) -> list[dict[str, Json]]:
    """One row for each policy, episode and world: whether the last frame is a success, and its probability."""
    return [
        {
            "world": world,
            "policy": policy,
            "source": source,
            "episode": episode,
            "success": int(result.success[row, -1] >= results.spec.threshold),
            "probability": round(float(result.success[row, -1]), 4),
        }
        for world, policies in results.worlds.items()
        for policy, sources in policies.items()
        for source, result in sources.items()
        for row, episode in enumerate(results.episodes[source])
    ]


def rate_rows(results: PolicyResults) -> list[dict[str, Json]]:
    """One row for each policy and source: the success in the simulator and in each world model."""
    return [
        {
            "policy": policy,
            "source": source,
            **{world: float(results.table(world, [policy], [source]).mean()) for world in WORLDS if results.has(world)},
        }
        for policy in results.spec.policies
        for source in results.sources
        if results.select_evaluated([policy], [source])
    ]


def write_clips(folder: Path, results: PolicyResults) -> None:
    """Write the clips of each world to `<world>.npz`, (C, T + 1, H, W, 3) by `<policy>/<source>`."""
    folder.mkdir(parents=True, exist_ok=True)
    for world in WORLDS:
        arrays: dict[str, Any] = {
            f"{policy}/{source}": result.clips
            for policy, sources in results.worlds.get(world, {}).items()
            for source, result in sources.items()
            if result.clips is not None and len(result.clips)
        }
        if arrays:
            with replacing(folder / f"{world}.npz") as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, **arrays)
