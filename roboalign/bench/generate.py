"""Generated clips: rollouts of world models from recorded first frames and actions, made, written and labelled."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.labelling import Labels
from roboalign.bench.labels import Label, distance, label_generated
from roboalign.bench.pairs import Pair, identity
from roboalign.bench.probed import label_probed, probed_change, shrink, with_distance
from roboalign.probe.spec import ProbeName
from roboalign.store import EpisodeInfo, EpisodeWriter
from roboalign.types import Episode, Float32, UInt8

Generate = Callable[[UInt8, Float32, NDArray[np.bool_], NDArray[np.int64]], UInt8]
"""A world model: first frames (B, H, W, 3), normalised actions (B, F, A), action masks (B, A) and seeds (B,) to the
predicted frames (B, F, H, W, 3)."""

Progress = Callable[[int, int], None]
"""Told how many clips are made, of how many."""


Made = tuple[dict[ProbeName, Pair], UInt8]
"""A generated pair with the label by each state probe, and its clip (T, H, W, 3)."""

Chunks = Callable[[Sequence[Sequence[Pair]]], Iterable[Sequence[Made]]]
"""What makes many chunks of recipes, each as `make` does, in order; perhaps in several processes."""


def make(
    labels: Labels, models: Mapping[str, Generate], recipes: Sequence[Pair], others: Mapping[ProbeName, Labels]
) -> list[Made]:
    """The clips of a chunk of recipes, and the pairs with their labels and ids."""
    made = dict(clip for name, run in models.items() for clip in _rollouts(labels, recipes, name, run))
    labelled: dict[ProbeName, list[Pair]] = {"judge": _label_clips(labels, recipes, made)}
    labelled |= {name: _label_clips(other, recipes, made) for name, other in others.items()}
    result: list[Made] = []
    for row, recipe in enumerate(recipes):
        clip, scene = made[row][0], labels.infos[labels.numbers[recipe.episode]].scene
        number = identity(recipe, scene, clip)
        result.append(({name: replace(pairs[row], id=number) for name, pairs in labelled.items()}, clip))
    return result


def generate(
    labels: Labels,
    recipes: Sequence[Pair],
    models: Mapping[str, Generate],
    folder: Path,
    fps: float,
    progress: Progress | None = None,
    chunks: Chunks | None = None,
    others: Mapping[ProbeName, Labels] | None = None,
) -> dict[ProbeName, list[Pair]]:
    """Make the clips of generated pairs, write them to the store `folder`, and label them; in the order given.

    Only one chunk is in memory at a time. `chunks` makes them in another way than one after the other. The result has
    the pairs with the labels by the judge's state probe, and by each of `others`.
    """
    others = others or {}
    result: dict[ProbeName, list[Pair]] = {"judge": [], **{name: [] for name in others}}
    if not recipes:
        return result
    parts = list(_chunks(recipes, labels.spec.generated.batch_size * len(labels.spec.generated.models)))
    every = (make(labels, models, part, others) for part in parts) if chunks is None else chunks(parts)
    done = 0
    with EpisodeWriter(folder, fps=fps) as writer:
        for made in every:
            for pairs, clip in made:
                pair = pairs["judge"]
                number = labels.numbers[pair.episode]
                numbered = {name: replace(own, generated=done) for name, own in pairs.items()}
                actions = labels.corpus.actions(number)[pair.start : pair.stop]
                writer.add(_episode(numbered["judge"], labels.infos[number], clip, actions))
                for name, own in numbered.items():
                    result[name].append(own)
                done += 1
            if progress is not None:
                progress(done, len(recipes))
    return result


def _chunks(recipes: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    """The recipes in their order, at most `size` at a time; those of a chunk are equally long."""
    chunk: list[Pair] = []
    for pair in recipes:
        if chunk and (len(chunk) == size or pair.stop - pair.start != chunk[0].stop - chunk[0].start):
            yield chunk
            chunk = []
        chunk.append(pair)
    yield chunk


def _rollouts(
    labels: Labels, recipes: Sequence[Pair], name: str, run: Generate
) -> Iterator[tuple[int, tuple[UInt8, UInt8]]]:
    """The clip of each recipe of one model, by its row, and the true clip of the same actions, (T, H, W, 3) each."""
    batch, corpus = labels.spec.generated.batch_size, labels.corpus
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


def _label_clips(labels: Labels, recipes: Sequence[Pair], made: Mapping[int, tuple[UInt8, UInt8]]) -> list[Pair]:
    """The recipes with scores: by the probe where it sees the source, by the rule of distances elsewhere."""
    seen = _look(labels, recipes, made)
    result: list[Pair] = []
    for row, pair in enumerate(recipes):
        clip, truth = made[row]
        state, limits = labels.state(pair.episode, pair.start, pair.stop), labels.limits.get(pair.source)
        own, rule, reward = labels.sights.get(pair.source), labels.spec.generated, labels.reward
        label = label_generated(reward, rule, distance(clip, truth, rule.floor), state, limits)
        if row in seen and state is not None and limits is not None and own is not None:
            change = probed_change(reward, *seen[row], own)
            if pair.origin == "group":
                # The differences within a group are smaller than the slack, and the probe's errors fall on all alike.
                label = Label(*label_probed(reward, change, state, limits), "rubric_probed_group")
            else:
                scores, faithful = label_probed(
                    reward, shrink(change, own.slack, np.array(reward.max_scores)), state, limits
                )
                label = Label(
                    with_distance(reward, rule, scores, label.scores, own),
                    with_distance(reward, rule, faithful, label.faithful, own),
                    "rubric_probed",
                )
        result.append(labels.with_label(pair, label))
    return result


def _look(
    labels: Labels, recipes: Sequence[Pair], made: Mapping[int, tuple[UInt8, UInt8]]
) -> dict[int, tuple[Float32, Float32]]:
    """What the probe sees in each clip and in its true future, (T, 14) each, by row."""
    if labels.probe is None:
        return {}
    groups: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(recipes):
        info = labels.infos[labels.numbers[pair.episode]]
        if pair.source in labels.sights and labels.covers(info):
            groups.setdefault((pair.source, info.task), []).append(row)
    seen: dict[int, tuple[Float32, Float32]] = {}
    for (source, task), rows in groups.items():
        # The rollouts of a group share their true future: it is read once.
        truths = {(recipes[row].episode, recipes[row].start, recipes[row].stop): made[row][1] for row in rows}
        places = {key: len(rows) + place for place, key in enumerate(truths)}
        states = labels.probe(source, task, np.stack([*(made[row][0] for row in rows), *truths.values()]))
        for place, row in enumerate(rows):
            true = places[recipes[row].episode, recipes[row].start, recipes[row].stop]
            seen[row] = states[place], states[true]
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
