"""The choice of the pairs of a study, and the key that says which model made which clip."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from roboalign.evaluation.clips import ClipSet

TRUTH, SHUFFLED = "truth", "shuffled"
"""The clips of attention checks: the recording, and the same frames in random order."""


class PairsError(ValueError):
    """A study cannot be built or read; the message says why and what to do."""


class ComparedPair(BaseModel):
    """Two clips of one episode. In attention checks, `a` or `b` is TRUTH and the other one SHUFFLED."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    episode: str
    a: str
    """The clip set of clip A; clips A and B are in random order, so that it tells nothing of the model."""
    b: str

    @property
    def is_check(self) -> bool:
        """Whether the pair is an attention check."""
        return {self.a, self.b} == {TRUTH, SHUFFLED}


class StudyKey(BaseModel):
    """The content of the key file, which raters must not see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["roboalign preference study"] = "roboalign preference study"
    study: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """Hash of the pairs; answers name it."""
    models: tuple[str, ...]
    pairs: tuple[ComparedPair, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = {*self.models, TRUTH, SHUFFLED}
        for pair in self.pairs:
            if not {pair.a, pair.b} <= known:
                raise ValueError(f"pair {pair.id} compares {pair.a} and {pair.b}, of which models lacks one")
        if len({pair.id for pair in self.pairs}) != len(self.pairs):
            raise ValueError("two pairs have the same id")
        return self


def read_key(text: str, name: str) -> StudyKey:
    """Parse a key file. Raises PairsError, with its `name`, if it is not one."""
    try:
        return StudyKey.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "content"
        raise PairsError(
            f"{name}: {field}: {first['msg']}; give the key file that `pairs build` wrote beside the page"
        ) from None


def choose_pairs(
    sets: Mapping[str, ClipSet], sources: Mapping[str, str], models: Sequence[str], pairs: int, checks: int, seed: int
) -> StudyKey:
    """Choose pairs, as evenly over the pairs of models, and for each over sources, as the clips allow.

    Args:
        sets: The clip sets by name.
        sources: The source of each episode.
        models: The clip sets that are compared; first samples only.
        pairs: Number of pairs without attention checks; fewer if there are not as many.
        checks: Number of attention checks.
        seed: Seed of the choice.

    Raises:
        PairsError: A model is unknown or named twice, there are fewer than two, or they share no episode.
    """
    for name in models:
        if name not in sets:
            raise PairsError(f"there are no rollouts of {name}; choose from {', '.join(sorted(sets))}")
    if len(models) < 2 or len(set(models)) < len(models):
        raise PairsError("a study compares at least two different models; name each once in --models")
    generator = np.random.default_rng(seed)
    queues: list[list[tuple[str, str, str]]] = []
    for one, other in combinations(models, 2):
        shared = [e for e in dict.fromkeys(sets[one].episodes) if e in set(sets[other].episodes) and e in sources]
        queues.append([(episode, one, other) for episode in _in_turns(shared, sources, generator)])
    if not any(queues):
        raise PairsError(f"{', '.join(models)} have no episode in common; choose other models")
    chosen: list[tuple[str, str, str]] = []
    while any(queues) and len(chosen) < pairs:
        for queue in queues:
            if queue and len(chosen) < pairs:
                chosen.append(queue.pop(0))
    episodes = _in_turns(sorted({episode for episode, _, _ in chosen}), sources, generator)
    listed = [*chosen, *((episode, TRUTH, SHUFFLED) for episode in episodes[:checks])]
    turned = [(e, *((a, b) if generator.random() < 0.5 else (b, a))) for e, a, b in listed]
    made = tuple(
        ComparedPair(id=_digest(str(seed), str(number), *entry), episode=entry[0], a=entry[1], b=entry[2])
        for number, entry in enumerate(turned)
    )
    return StudyKey(study=_digest(*(pair.id for pair in made)), models=tuple(models), pairs=made)


def _in_turns(episodes: Sequence[str], sources: Mapping[str, str], generator: np.random.Generator) -> list[str]:
    """The episodes in random order, one of each source in turn."""
    by_source: dict[str, list[str]] = {}
    for episode in generator.permutation(np.array(sorted(episodes), dtype=object)):
        by_source.setdefault(sources[episode], []).append(str(episode))
    queues, result = list(by_source.values()), list[str]()
    while any(queues):
        result += [queue.pop() for queue in queues if queue]
    return result


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=8).hexdigest()
