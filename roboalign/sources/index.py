"""Index entries and metrics of the sources: folder, content hash, counts, and action range of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roboalign.io import digest, read_json
from roboalign.sources.errors import SourceError
from roboalign.sources.ingest_report import QUARANTINE
from roboalign.store import ActionRange, EpisodeStore


def entry(
    folder: Path, base: Path, quantile: float = 0.01, limits: Sequence[tuple[float, float]] = ()
) -> dict[str, Any]:
    """Return the index entry of the episode store at `folder`.

    Raises SourceError if a scene occurs in two splits, or if no episode is in the train split.

    Args:
        folder: folder of the store.
        base: folder that the entry's path is relative to.
        quantile: ranges of actions and proprioception lie between this quantile and its mirror, of the training
            episodes.
        limits: (minimum, maximum) of each action dimension, which replace the quantiles; empty to use the quantiles.
    """
    store = EpisodeStore(folder)
    splits: dict[str, str] = {}
    for info in store.infos:
        if splits.setdefault(info.scene, info.split) != info.split:
            raise SourceError(
                f"{folder}: the scene {info.scene} of episode {info.id} is in the splits {splits[info.scene]} and "
                f"{info.split}; change the source's seed"
            )
    train = [i for i, info in enumerate(store.infos) if info.split == "train"]
    if not train:
        raise SourceError(f"{folder}: no episode is in the train split; raise episodes or split.train")
    actions = ActionRange.over([store.actions(i) for i in train], quantile)
    if limits:
        actions = ActionRange(tuple(low for low, _ in limits), tuple(high for _, high in limits))
    measured = [values for i in train if (values := store.proprioception(i)) is not None]
    proprioception = ActionRange.over(measured, quantile) if measured else None
    return {
        "folder": folder.relative_to(base).as_posix(),
        "content": digest([folder]),
        "episodes": len(store),
        "frames": sum(info.length for info in store.infos),
        "fps": store.fps,
        "action_low": list(actions.low),
        "action_high": list(actions.high),
        **(
            {"proprioception_low": list(proprioception.low), "proprioception_high": list(proprioception.high)}
            if proprioception
            else {}
        ),
        "splits": {name: sum(i.split == name for i in store.infos) for name in ("train", "validation", "test")},
    }


def metrics(folder: Path) -> dict[str, Any]:
    """Return counts of episodes and frames, of damaged and excluded ones, and success rates by policy and task if
    known."""
    infos = EpisodeStore(folder).infos
    result: dict[str, Any] = {"episodes": len(infos), "frames": sum(info.length for info in infos)}
    if (folder / QUARANTINE).exists():
        quarantine = read_json(folder / QUARANTINE)
        result |= {
            "damaged": sum(entry["lost"] for entry in quarantine["damaged"]),
            "left_out": sum(quarantine["left_out"].values()),
        }
    with_success = [(info, info.success) for info in infos if info.success is not None]
    if with_success:
        result["success"] = _mean([success for _, success in with_success])
        for key in ("policy", "task"):
            groups = sorted({str(getattr(info, key)) for info, _ in with_success})
            result[f"success_by_{key}"] = {
                group: _mean([success for info, success in with_success if getattr(info, key) == group])
                for group in groups
            }
            result[f"episodes_by_{key}"] = {
                group: sum(getattr(info, key) == group for info, _ in with_success) for group in groups
            }
    return result


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values)
