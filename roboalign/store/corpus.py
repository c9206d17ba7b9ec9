"""Presents several stores as one list of episodes with normalised actions."""

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
    """The range of each dimension of a source's actions or proprioception, in its units: quantiles over its train
    split."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def over(cls, vectors: Sequence[Float32], quantile: float = 0.01) -> Self:
        """Return the `quantile` and `1 - quantile` of actions or proprioception, each (T, A)."""
        low, high = np.quantile(np.concatenate(vectors), [quantile, 1 - quantile], axis=0)
        return cls(tuple(map(float, low)), tuple(map(float, high)))

    def normalise(self, actions: Float32) -> Float32:
        """Normalise actions (T, A) from the source's units to [-1, 1], clipped; a constant dimension becomes 0."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        width = high - low
        varies = width > 1e-6
        scaled = 2 * (actions - low) / np.where(varies, width, 1) - 1
        return np.where(varies, np.clip(scaled, -1, 1), 0).astype(np.float32)


class _InMemoryStore:
    """Episodes in memory, with the interface of a store."""

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
    """Several sources as one list of episodes, with normalised actions padded to the same width."""

    stores: tuple[EpisodeStore | _InMemoryStore, ...]
    locations: tuple[tuple[int, int], ...]
    """(store index, index in the store) of each episode."""
    ranges: Mapping[str, ActionRange]
    """Action range of each source of the index, including sources that `filter` excluded, so that the width is
    unchanged."""
    proprioception_ranges: Mapping[str, ActionRange] = field(default_factory=dict)
    """Range of the proprioception of each source that has it."""

    @classmethod
    def open(cls, index: Path) -> Self:
        """Open the sources of an index (`artifacts/sources/index.json`).

        Folders in the index are relative to the parent of the index's folder. Raises StoreError if a store is missing
        or differs from the index.
        """
        try:
            entries = read_json(index)["sources"]
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{index} is not a readable index of sources ({error}); run `dvc repro sources`") from None
        stores, ranges, proprioception = [], {}, {}
        for name, entry in entries.items():
            store = EpisodeStore(index.parent.parent / entry["folder"])
            if (len(store), sum(i.length for i in store.infos)) != (entry["episodes"], entry["frames"]):
                raise StoreError(f"{store.folder} is not the store that {index} lists; run `dvc repro sources`")
            stores.append(store)
            ranges[name] = ActionRange(tuple(entry["action_low"]), tuple(entry["action_high"]))
            if "proprioception_low" in entry:
                low, high = entry["proprioception_low"], entry["proprioception_high"]
                proprioception[name] = ActionRange(tuple(low), tuple(high))
        locations = tuple((s, e) for s, store in enumerate(stores) for e in range(len(store)))
        return cls(tuple(stores), locations, ranges, proprioception)

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Self:
        """Build a corpus of episodes in memory. Ranges come from the train split of each source, or from all its
        episodes."""
        ranges, proprioception = {}, {}
        store = _InMemoryStore(episodes)
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
        """Metadata of each episode, available without reading frames."""
        return tuple(self.stores[store].infos[index] for store, index in self.locations)

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources with at least one episode in the corpus, in the order of the index."""
        present = {info.source for info in self.infos}
        return tuple(name for name in self.ranges if name in present)

    def frame_rates(self) -> dict[str, float]:
        """Frames per second of each source with an episode in the corpus."""
        return {
            info.source: self.stores[store].fps for (store, _), info in zip(self.locations, self.infos, strict=True)
        }

    @property
    def action_width(self) -> int:
        """Number of action dimensions of the widest source of the index."""
        return max(len(r.low) for r in self.ranges.values())

    @property
    def proprioception_width(self) -> int:
        """Dimensions of the widest source's proprioception; 0 if no source has it."""
        return max((len(r.low) for r in self.proprioception_ranges.values()), default=0)

    def __len__(self) -> int:
        return len(self.locations)

    def read(self, i: int) -> Episode:
        """Read the whole episode `i`, with actions in the source's units."""
        store, index = self.locations[i]
        return self.stores[store].read(index)

    def frames(self, i: int, start: int = 0, stop: int | None = None) -> UInt8:
        """Read frames (stop - start, H, W, 3) of episode `i`."""
        store, index = self.locations[i]
        return self.stores[store].frames(index, start, stop)

    def frames_at(self, i: int, numbers: Sequence[int]) -> UInt8:
        """Read the frames (len(numbers), H, W, 3) of episode `i` with these increasing indices."""
        store, index = self.locations[i]
        return self.stores[store].frames_at(index, numbers)

    def state(self, i: int) -> Float32 | None:
        """Read the states (T, 14) of episode `i`, columns STATE_NAMES, without its frames; None if unknown."""
        store, index = self.locations[i]
        return self.stores[store].state(index)

    def keypoints(self, i: int) -> Float32 | None:
        """Read the keypoints (T, 6) of episode `i`, columns KEYPOINT_NAMES, without its frames; None if unknown."""
        store, index = self.locations[i]
        return self.stores[store].keypoints(index)

    def actions(self, i: int) -> Float32:
        """Read the normalised actions (T, action_width) in [-1, 1] of episode `i`; dimensions that its source lacks are
        0."""
        store, index = self.locations[i]
        source = self.stores[store].infos[index].source
        values = self.ranges[source].normalise(self.stores[store].actions(index))
        return np.pad(values, ((0, 0), (0, self.action_width - values.shape[1])))

    def proprioception(self, i: int) -> Float32:
        """Read the proprioception (T, proprioception_width) of episode `i`, scaled to [-1, 1] by the source's range and
        clipped; NaN in dimensions that the source does not have."""
        store, index = self.locations[i]
        info = self.stores[store].infos[index]
        unknown = np.full((info.length, self.proprioception_width), np.nan, np.float32)
        scale = self.proprioception_ranges.get(info.source)
        values = None if scale is None else self.stores[store].proprioception(index)
        if scale is not None and values is not None:
            unknown[:, : values.shape[1]] = scale.normalise(values)
        return unknown

    def action_mask(self, i: int) -> NDArray[np.bool_]:
        """Return the mask (action_width,) of the action dimensions that the source of episode `i` has."""
        store, index = self.locations[i]
        return np.arange(self.action_width) < len(self.ranges[self.stores[store].infos[index].source].low)

    def filter(self, *, split: Split | None = None, source: str | None = None, policy: Policy | None = None) -> Self:
        """Return the corpus of the episodes that match all given criteria, in the same order."""
        chosen = tuple(
            location
            for location, info in zip(self.locations, self.infos, strict=True)
            if split in (None, info.split) and source in (None, info.source) and policy in (None, info.policy)
        )
        return type(self)(self.stores, chosen, self.ranges, self.proprioception_ranges)
