"""Labels by people and by vision-language models: JSON Lines, one rater's scores of one clip a line.

```
{"clip": "6f0c1a2b3c4d5e6f", "rater": "anna", "kind": "person", "scores": {"instruction_following": 2, ...}}
```

`clip` is the pair's id (see roboalign/bench/pairs.py), which `python -m roboalign bench export` writes beside the clip.
`scores` are raw scores, from 0 to the dimension's maximum, one for each dimension of the reward.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Literal

import fsspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roboalign.io import json_lines
from roboalign.reward.spec import RewardSpec

Kind = Literal["person", "vlm"]
"""Kind of rater: a person or a vision-language model."""


class AnnotationError(ValueError):
    """A file of annotations is refused; the message names the file, the line and the field."""


class Annotation(BaseModel):
    """One rater's scores of one clip: one line of an annotation file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    clip: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """The pair's id."""
    rater: Annotated[str, Field(min_length=1, max_length=100)]
    """Name of the person or the model. A second line of a rater for the same clip and showing is refused."""
    kind: Kind
    """Kind of rater."""
    scores: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]
    """Raw score of each dimension by its name."""
    showing: Annotated[int, Field(ge=1, le=100)] = 1
    """1, or 2 if the clip was shown to the rater a second time, to measure how reproducible the scores are."""
    comment: Annotated[str, Field(max_length=2000)] = ""
    """Free text."""

    def line(self) -> str:
        """The annotation as one line of JSON, with a line feed."""
        return self.model_dump_json() + "\n"


def parse(text: str, place: str, reward: RewardSpec, clips: Collection[str] | None = None) -> Annotation:
    """Parse one line of an annotation file.

    Args:
        text: The line.
        place: `file:line`, with which error messages begin.
        reward: The reward that defines the dimensions.
        clips: Ids of the bench's clips; None accepts any id.

    Raises AnnotationError if the line is not an annotation, names an unknown clip or dimension, lacks a dimension, or
    has a score above the dimension's maximum.
    """
    try:
        annotation = Annotation.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "line"
        raise AnnotationError(f"{place}: {field}: {first['msg']}") from None
    maxima = dict(zip(reward.names, reward.max_scores, strict=True))
    for name, value in annotation.scores.items():
        if name not in maxima:
            raise AnnotationError(
                f"{place}: scores.{name}: the reward has no such dimension; it has {', '.join(maxima)}"
            )
        if value > maxima[name]:
            raise AnnotationError(f"{place}: scores.{name}: {value:g} is above the maximum ({maxima[name]:g})")
    if missing := [name for name in maxima if name not in annotation.scores]:
        raise AnnotationError(f"{place}: scores: {', '.join(missing)} is missing; score every dimension of the reward")
    if clips is not None and annotation.clip not in clips:
        raise AnnotationError(
            f"{place}: clip: this bench has no clip {annotation.clip}; annotate clips that `bench export` wrote from it"
        )
    return annotation


def read_annotations(
    uris: Sequence[str], reward: RewardSpec, clips: Collection[str] | None = None
) -> tuple[Annotation, ...]:
    """All annotations in files or fsspec URIs, in order; blank lines are skipped. `reward` and `clips` as in `parse`.

    Raises AnnotationError for a file that cannot be read, for a line that `parse` refuses, and for a clip that one
    rater scored twice in one showing.
    """
    annotations: dict[tuple[str, str, int], tuple[str, Annotation]] = {}
    for uri in uris:
        try:
            with fsspec.open(uri, "rt", encoding="utf-8") as file:
                text = file.read()
        except (OSError, ValueError, ImportError) as error:
            raise AnnotationError(f"{uri} cannot be read ({error}); correct bench.annotations") from None
        for number, line in json_lines(text):
            place = f"{uri}:{number}"
            annotation = parse(line, place, reward, clips)
            key = (annotation.clip, annotation.rater, annotation.showing)
            if key in annotations:
                first = annotations[key][0]
                raise AnnotationError(
                    f"{place}: rater: {annotation.rater} scored {annotation.clip} already at {first}; remove one line"
                )
            annotations[key] = (place, annotation)
    return tuple(annotation for _, annotation in annotations.values())


def average(
    annotations: Iterable[Annotation], names: Sequence[str]
) -> Mapping[str, tuple[NDArray[np.float64], Kind, int]]:
    """By clip: the mean scores (D,) in the order of `names`, the kind of its raters, and their number.

    If people rated a clip, models' scores of it are ignored. Second showings are ignored too, since they would count
    their rater twice.
    """
    grouped: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        if annotation.showing > 1:
            continue
        grouped.setdefault(annotation.clip, []).append(annotation)
    result: dict[str, tuple[NDArray[np.float64], Kind, int]] = {}
    for clip, group in grouped.items():
        people = [annotation for annotation in group if annotation.kind == "person"]
        chosen = people or group
        scores = np.array([[annotation.scores[name] for name in names] for annotation in chosen])
        result[clip] = (scores.mean(0), "person" if people else "vlm", len(chosen))
    return result
