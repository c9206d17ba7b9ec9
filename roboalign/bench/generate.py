"""Generated clips: rollouts of world models from recorded first frames and actions, made, written and labelled."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.labelling import Labels
from roboalign.bench.labels import distance, label_generated
from roboalign.bench.pairs import Pair, identity
from roboalign.bench.probed import label_probed, with_distance
from roboalign.store import EpisodeInfo, EpisodeWriter
from roboalign.types import Episode, Float32, UInt8

Generate = Callable[[UInt8, Float32, NDArray[np.bool_], NDArray[np.int64]], UInt8]
"""A world model: first frames (B, H, W, 3), normalised actions (B, F, A), action masks (B, A) and seeds (B,) to the
predicted frames (B, F, H, W, 3)."""

Progress = Callable[[int, int], None]
"""Told how many clips are made, of how many."""


Made = tuple[Pair, UInt8]
"""A generated pair, labelled, and its clip (T, H, W, 3)."""

Chunks = Callable[[Sequence[Sequence[Pair]]], Iterable[Sequence[Made]]]
"""What makes many chunks of recipes, each as `make` does, in order; perhaps in several processes."""


def make(labels: Labels, models: Mapping[str, Generate], recipes: Sequence[Pair]) -> list[Made]:
    """The clips of a chunk of recipes, and the pairs with their labels and ids."""
    made = dict(clip for name, run in models.items() for clip in _rollouts(labels, recipes, name, run))
    result: list[Made] = []
    for row, pair in enumerate(_labelled(labels, recipes, made)):
        clip, scene = made[row][0], labels.infos[labels.numbers[pair.episode]].scene
        result.append((replace(pair, id=identity(pair, scene, clip)), clip))
    return result


def generate(
    labels: Labels,
    recipes: Sequence[Pair],
    models: Mapping[str, Generate],
    folder: Path,
    fps: float,
    progress: Progress | None = None,
    chunks: Chunks | None = None,
) -> list[Pair]:
    """Make the clips of generated pairs, write them to the store `folder`, and label them; in the order given.

    A chunk is one batch of each model; only one is in memory at a time. `chunks` makes them in another way than one
    after the other.
    """
    if not recipes:
        return []
    result: list[Pair] = []
    size = labels.spec.generated.batch * len(models)
    parts = [recipes[first : first + size] for first in range(0, len(recipes), size)]
    every = (make(labels, models, part) for part in parts) if chunks is None else chunks(parts)
    with EpisodeWriter(folder, fps=fps) as writer:
        for made in every:
            for pair, clip in made:
                number = labels.numbers[pair.episode]
                numbered = replace(pair, generated=len(result))
                actions = labels.corpus.actions(number)[pair.start : pair.stop]
                writer.add(_episode(numbered, labels.infos[number], clip, actions))
                result.append(numbered)
            if progress is not None:
                progress(len(result), len(recipes))
    return result


def _rollouts(
    labels: Labels, recipes: Sequence[Pair], name: str, run: Generate
) -> Iterator[tuple[int, tuple[UInt8, UInt8]]]:
    """The clip of each recipe of one model, by its row, and the true clip of the same actions, (T, H, W, 3) each."""
    batch, corpus = labels.spec.generated.batch, labels.corpus
    rows = [row for row, pair in enumerate(recipes) if pair.model == name]
    for first in range(0, len(rows), batch):
        group = [recipes[row] for row in rows[first : first + batch]]
        numbers = [labels.numbers[pair.episode] for pair in group]
        truths = [corpus.frames(number, pair.start, pair.stop) for number, pair in zip(numbers, group, strict=True)]
        futures = run(
            np.stack([truth[0] for truth in truths]),
            np.stack([corpus.actions(n)[p.start : p.stop - 1] for n, p in zip(numbers, group, strict=True)]),
            np.stack([corpus.action_mask(number) for number in numbers]),
            np.array([pair.seed for pair in group]),
        )
        for row, truth, future in zip(rows[first:], truths, futures, strict=False):
            yield row, (np.concatenate([truth[:1], future]), truth)


def _labelled(labels: Labels, recipes: Sequence[Pair], made: Mapping[int, tuple[UInt8, UInt8]]) -> list[Pair]:
    """The recipes with scores: by the probe where it sees the source, by the rule of distances elsewhere."""
    seen = _look(labels, recipes, made)
    result: list[Pair] = []
    for row, pair in enumerate(recipes):
        clip, truth = made[row]
        state, limits = labels.state(pair.episode, pair.start, pair.stop), labels.limits.get(pair.source)
        own = labels.sights.get(pair.source)
        rule = labels.spec.generated
        scores, provenance = label_generated(labels.reward, rule, distance(clip, truth, rule.floor), state, limits)
        if row in seen and state is not None and limits is not None and own is not None:
            probed = label_probed(labels.reward, *seen[row], state, limits, own)
            scores, provenance = with_distance(labels.reward, rule, probed, scores, own), "rubric_probed"
        result.append(labels.marked(pair, scores, provenance))
    return result


def _look(
    labels: Labels, recipes: Sequence[Pair], made: Mapping[int, tuple[UInt8, UInt8]]
) -> dict[int, tuple[Float32, Float32]]:
    """What the probe sees in each clip and in its true future, (T, 14) each, by row."""
    if labels.probe is None:
        return {}
    groups: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(recipes):
        if pair.source in labels.sights:
            task = labels.infos[labels.numbers[pair.episode]].task
            groups.setdefault((pair.source, task), []).append(row)
    seen: dict[int, tuple[Float32, Float32]] = {}
    for (source, task), rows in groups.items():
        # Each clip and its true future are looked at side by side, so that a probe's batches treat both alike.
        clips = np.stack([frames for row in rows for frames in made[row]])
        states = labels.probe(source, task, clips)
        seen |= {row: (states[2 * place], states[2 * place + 1]) for place, row in enumerate(rows)}
    return seen


def _episode(pair: Pair, info: EpisodeInfo, clip: UInt8, actions: Float32) -> Episode:
    """A generated clip as an episode; its actions are the normalised ones."""
    return Episode(
        id=f"{pair.episode}/{pair.start}/{pair.model}/{pair.generated}",
        source=pair.source,
        task=info.task,
        instruction=pair.instruction,
        policy=info.policy,
        scene=info.scene,
        split=pair.split,
        frames=clip,
        actions=actions,
    )
