"""Several stores as one list of episodes, with actions on a common scale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from roboalign.io import read_json
from roboalign.store.layout import EpisodeInfo, StoreError, proprioception_of
from roboalign.store.reader import EpisodeStore
from roboalign.types import Episode, Float32, Policy, Split, UInt8


@dataclass(frozen=True, slots=True)
class ActionRange:
    """The range of each dimension of a source's actions or proprioception, in its own units: robust quantiles over its
    train split."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def over(cls, vectors: Sequence[Float32], quantile: float = 0.01) -> Self:
        """The `quantile` and `1 - quantile` of actions or proprioception, each (T, A)."""
        low, high = np.quantile(np.concatenate(vectors), [quantile, 1 - quantile], axis=0)
        return cls(tuple(map(float, low)), tuple(map(float, high)))

    def normalise(self, actions: Float32) -> Float32:
        """(T, A) in the source's units → [-1, 1], clipped; a dimension that never varies becomes 0."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        span = high - low
        moving = span > 1e-6
        scaled = 2 * (actions - low) / np.where(moving, span, 1) - 1
        return np.where(moving, np.clip(scaled, -1, 1), 0).astype(np.float32)


class _Memory:
    """Episodes in memory, read like a store."""

    fps = 10.0

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._episodes = tuple(episodes)
        self.infos = tuple(
            EpisodeInfo(e.id, e.source, e.task, e.instruction, e.policy, e.scene, e.split, len(e.frames), e.success)
            for e in episodes
        )

    def read(self, index: int) -> Episode:
        return self._episodes[index]

    def frames(self, index: int, start: int = 0, stop: int | None = None) -> UInt8:
        return self._episodes[index].frames[start:stop]

    def frames_at(self, index: int, numbers: Sequence[int]) -> UInt8:
        return self._episodes[index].frames[list(numbers)]

    def actions(self, index: int) -> Float32:
        return self._episodes[index].actions

    def state(self, index: int) -> Float32 | None:
        return self._episodes[index].state

    def keypoints(self, index: int) -> Float32 | None:
        return self._episodes[index].keypoints

    def proprioception(self, index: int) -> Float32 | None:
        episode = self._episodes[index]
        return proprioception_of(episode.state) if episode.proprioception is None else episode.proprioception


@dataclass(frozen=True)
class Corpus:
    """Several sources as one list of episodes, with actions on one scale and of one width."""

    stores: tuple[EpisodeStore | _Memory, ...]
    places: tuple[tuple[int, int], ...]
    """For each episode, its store and its index there."""
    ranges: Mapping[str, ActionRange]
    """The action range of each source, also of those that `filter` left out: the width is that of the whole index."""
    proprioception_ranges: Mapping[str, ActionRange] = field(default_factory=dict)
    """The range of the proprioception of each source that has it."""

    @classmethod
    def open(cls, index: Path) -> Self:
        """Open the sources that an index lists (`artifacts/sources/index.json`); their folders are relative to the
        folder that holds the index's folder. Raises StoreError if a store is missing or not the indexed one."""
        try:
            listed = read_json(index)["sources"]
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{index} is not a readable index of sources ({error}); run `dvc repro sources`") from None
        stores, ranges, proprioception = [], {}, {}
        for name, entry in listed.items():
            store = EpisodeStore(index.parent.parent / entry["folder"])
            if (len(store), sum(i.length for i in store.infos)) != (entry["episodes"], entry["frames"]):
                raise StoreError(f"{store.folder} is not the store that {index} lists; run `dvc repro sources`")
            stores.append(store)
            ranges[name] = ActionRange(tuple(entry["action_low"]), tuple(entry["action_high"]))
            if "proprioception_low" in entry:
                low, high = entry["proprioception_low"], entry["proprioception_high"]
                proprioception[name] = ActionRange(tuple(low), tuple(high))
        places = tuple((s, e) for s, store in enumerate(stores) for e in range(len(store)))
        return cls(tuple(stores), places, ranges, proprioception)

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Self:
        """A corpus of episodes in memory; ranges come from the train split of each source (if any)."""
        ranges, proprioception = {}, {}
        store = _Memory(episodes)
        for name in dict.fromkeys(e.source for e in episodes):
            numbers = [i for i, e in enumerate(episodes) if e.source == name]
            numbers = [i for i in numbers if episodes[i].split == "train"] or numbers
            ranges[name] = ActionRange.over([store.actions(i) for i in numbers])
            measured = [values for i in numbers if (values := store.proprioception(i)) is not None]
            if measured:
                proprioception[name] = ActionRange.over(measured)
        return cls((store,), tuple((0, i) for i in range(len(episodes))), ranges, proprioception)

    @cached_property
    def infos(self) -> tuple[EpisodeInfo, ...]:
        """What is known of each episode without reading frames."""
        return tuple(self.stores[store].infos[index] for store, index in self.places)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that have an episode here, in the order of the index."""
        present = {info.source for info in self.infos}
        return tuple(name for name in self.ranges if name in present)

    @property
    def action_width(self) -> int:
        """Action dimensions of the widest source of the index."""
        return max(len(r.low) for r in self.ranges.values())

    @property
    def proprioception_width(self) -> int:
        """Dimensions of the widest source's proprioception; 0 if no source has it."""
        return max((len(r.low) for r in self.proprioception_ranges.values()), default=0)

    def __len__(self) -> int:
        return len(self.places)

    def read(self, i: int) -> Episode:
        """The whole episode `i`, its actions in the source's own units."""
        store, index = self.places[i]
        return self.stores[store].read(index)

    def frames(self, i: int, start: int = 0, stop: int | None = None) -> UInt8:
        """(stop - start, H, W, 3) frames of episode `i`."""
        store, index = self.places[i]
        return self.stores[store].frames(index, start, stop)

    def frames_at(self, i: int, numbers: Sequence[int]) -> UInt8:
        """(len(numbers), H, W, 3): the frames of episode `i` with these numbers, in rising order."""
        store, index = self.places[i]
        return self.stores[store].frames_at(index, numbers)

    def state(self, i: int) -> Float32 | None:
        """(T, 14) states of episode `i`, columns STATE_NAMES, without reading its frames; None if unknown."""
        store, index = self.places[i]
        return self.stores[store].state(index)

    def keypoints(self, i: int) -> Float32 | None:
        """(T, 6) keypoints of episode `i`, columns KEYPOINT_NAMES, without reading its frames; None if unknown."""
        store, index = self.places[i]
        return self.stores[store].keypoints(index)

    def actions(self, i: int) -> Float32:
        """(T, action_width): actions in [-1, 1] by the source's range, clipped; dimensions that it lacks are 0."""
        store, index = self.places[i]
        source = self.stores[store].infos[index].source
        values = self.ranges[source].normalise(self.stores[store].actions(index))
        return np.pad(values, ((0, 0), (0, self.action_width - values.shape[1])))

    def proprioception(self, i: int) -> Float32:
        """(T, proprioception_width): what the robot measures of itself, in [-1, 1] by the source's range, clipped;
        NaN in dimensions that it lacks."""
        store, index = self.places[i]
        info = self.stores[store].infos[index]
        unknown = np.full((info.length, self.proprioception_width), np.nan, np.float32)
        scale = self.proprioception_ranges.get(info.source)
        values = None if scale is None else self.stores[store].proprioception(index)
        if scale is not None and values is not None:
            unknown[:, : values.shape[1]] = scale.normalise(values)
        return unknown

    def action_mask(self, i: int) -> NDArray[np.bool_]:
        """(action_width,): which action dimensions the source of episode `i` has."""
        store, index = self.places[i]
        return np.arange(self.action_width) < len(self.ranges[self.stores[store].infos[index].source].low)

    def filter(self, *, split: Split | None = None, source: str | None = None, policy: Policy | None = None) -> Self:
        """The episodes that match everything given, in the same order."""
        chosen = tuple(
            place
            for place, info in zip(self.places, self.infos, strict=True)
            if split in (None, info.split) and source in (None, info.source) and policy in (None, info.policy)
        )
        return type(self)(self.stores, chosen, self.ranges, self.proprioception_ranges)
