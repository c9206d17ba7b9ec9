"""The index of the sources: where each lies, its content's hash, its counts, and its range of actions."""

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
    """The index entry of the store at `folder`.

    Args:
        folder: The store.
        base: The folder that its path is given relative to.
        quantile: Actions and proprioception are scaled to the range between this quantile and its mirror.
        limits: Least and largest value of each action dimension, instead of the quantiles.

    Raises SourceError if a scene occurs in two splits, or no episode is there to train on.
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
    """Counts, what was damaged or left out, and the rate of success by policy and by task if it is known."""
    infos = EpisodeStore(folder).infos
    result: dict[str, Any] = {"episodes": len(infos), "frames": sum(info.length for info in infos)}
    if (folder / QUARANTINE).exists():
        lost = read_json(folder / QUARANTINE)
        result |= {"damaged": sum(each["lost"] for each in lost["damaged"]), "left_out": sum(lost["left_out"].values())}
    judged = [(info, info.success) for info in infos if info.success is not None]
    if judged:
        result["success"] = _mean([success for _, success in judged])
        for key in ("policy", "task"):
            groups = sorted({str(getattr(info, key)) for info, _ in judged})
            result[f"success_by_{key}"] = {
                group: _mean([success for info, success in judged if getattr(info, key) == group]) for group in groups
            }
            result[f"episodes_by_{key}"] = {
                group: sum(getattr(info, key) == group for info, _ in judged) for group in groups
            }
    return result


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values)
