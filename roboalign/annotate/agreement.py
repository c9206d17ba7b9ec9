"""Agreement of raters with the labels, with each other, and with their own repeated scores."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from roboalign.bench.annotations import Annotation, average
from roboalign.bench.pairs import Pair
from roboalign.metrics.statistics import CHUNK, bootstrap, quadratic_weighted_kappa
from roboalign.reward.spec import RewardSpec
from roboalign.types import Json

Scores = NDArray[np.float64]

RATED = ("people", "vlm")
"""Provenances of labels that are raters' scores."""

DRAWS = 10_000
"""Bootstrap draws for the 95 % intervals."""

UNDEFINED = 0.05
"""Maximum fraction of draws with an undefined kappa for which its interval is given."""


def kappa(a: Scores, b: Scores, draws: int = DRAWS, seed: int = 0) -> dict[str, float] | None:
    """Quadratic-weighted kappa of two raters' scores of the same clips, with a 95 % bootstrap interval over clips.

    Args:
        a: Scores (N,) of one rater.
        b: Scores (N,) of the other.
        draws: Bootstrap draws.
        seed: Seed of the bootstrap.

    Returns:
        {value, low, high}, without bounds if kappa is undefined for more than 5 % of the draws; None if it is undefined
        because both raters always give the same constant score.
    """
    value = quadratic_weighted_kappa(a, b)
    if value is None:
        return None
    generator, n = np.random.default_rng(seed), len(a)
    parts: list[Scores] = []
    rows = max(1, CHUNK // n)
    for start in range(0, draws, rows):
        indices = generator.integers(n, size=(min(rows, draws - start), n))
        x, y = a[indices], b[indices]
        chance = x.var(1) + y.var(1) + (x.mean(1) - y.mean(1)) ** 2
        disagreement = ((x - y) ** 2).mean(1)
        defined = chance > 1e-12
        parts.append(1 - disagreement[defined] / chance[defined])
    values = np.concatenate(parts)
    if len(values) < (1 - UNDEFINED) * draws:
        return {"value": value}
    low, high = np.quantile(values, (0.025, 0.975))
    return {"value": value, "low": float(low), "high": float(high)}


def compare(scores: Scores, reference: Scores, names: Sequence[str]) -> dict[str, Json]:
    """Compare scores (N, D) with reference scores (N, D) of the same clips.

    Returns `n`, and for each dimension and `total` {mae, bias, qwk}; `bias` is the mean of `scores` - `reference`.
    """
    columns = [(name, scores[:, k], reference[:, k]) for k, name in enumerate(names)]
    columns.append(("total", scores.sum(1), reference.sum(1)))
    result: dict[str, Json] = {"n": len(scores)}
    for name, a, b in columns:
        mae = bootstrap(np.abs(a - b), DRAWS)
        entry: dict[str, Json] = {
            "mae": {"value": mae.mean, "low": mae.low, "high": mae.high},
            "bias": float((a - b).mean()),
        }
        weighted = kappa(a, b)
        result[name] = entry if weighted is None else entry | {"qwk": weighted}
    return result


def agreement(annotations: Sequence[Annotation], pairs: Sequence[Pair], reward: RewardSpec) -> dict[str, Json]:
    """All comparisons of the annotations; keys without clips are left out.

    - `raters`: each rater's first showings against the labels, with the kind of rater;
    - `people`: the mean over people of each clip's scores against the labels, and `by_provenance` for each kind of
      label;
    - `between`: each pair of raters on the clips that both scored;
    - `repeats`: each rater's second showings against the first.

    The clips must be the bench's; see `read_annotations`. Clips whose labels are raters' scores are left out of
    comparisons with labels.
    """
    names = reward.names
    labels = {pair.id: np.array(pair.scores) for pair in pairs if pair.provenance not in RATED}
    first = [row for row in annotations if row.showing == 1]
    repeated = [row for row in annotations if row.showing == 2]
    by_rater: dict[str, dict[str, Scores]] = {}
    for row in first:
        by_rater.setdefault(row.rater, {})[row.clip] = np.array([row.scores[name] for name in names])
    kinds = {row.rater: row.kind for row in first}
    result: dict[str, Json] = {
        "raters": {
            rater: {"kind": kinds[rater]} | compare_shared(scores, labels, names)
            for rater, scores in sorted(by_rater.items())
        }
    }
    people = [row for row in first if row.kind == "person"]
    if people:
        means = {clip: scores for clip, (scores, _, _) in average(people, names).items()}
        entry = compare_shared(means, labels, names)
        for provenance in sorted({pair.provenance for pair in pairs if pair.id in means and pair.id in labels}):
            part = {pair.id for pair in pairs if pair.provenance == provenance}
            entry.setdefault("by_provenance", {})[provenance] = compare_shared(
                {clip: scores for clip, scores in means.items() if clip in part}, labels, names
            )
        result["people"] = entry | {"raters": len({row.rater for row in people})}
    between = {
        f"{one} ~ {other}": compare_shared(by_rater[one], by_rater[other], names)
        for one, other in combinations(sorted(by_rater), 2)
        if by_rater[one].keys() & by_rater[other].keys()
    }
    repeats: dict[str, Json] = {}
    for rater in sorted({row.rater for row in repeated}):
        second = {row.clip: np.array([row.scores[name] for name in names]) for row in repeated if row.rater == rater}
        if second.keys() & by_rater.get(rater, {}).keys():
            repeats[rater] = compare_shared(second, by_rater[rater], names)
    return result | ({"between": between} if between else {}) | ({"repeats": repeats} if repeats else {})


def compare_shared(
    scores: Mapping[str, Scores], reference: Mapping[str, Scores], names: Sequence[str]
) -> dict[str, Json]:
    """`compare` on the clips that both have; {n: 0} if there are none."""
    clips = sorted(scores.keys() & reference.keys())
    if not clips:
        return {"n": 0}
    return compare(np.stack([scores[clip] for clip in clips]), np.stack([reference[clip] for clip in clips]), names)


def table(result: Mapping[str, Json], names: Sequence[str]) -> str:
    """The agreement as text: a block for each comparison, a line for each dimension."""
    blocks = [
        _block(f"{rater} ({entry['kind']}) against the labels", entry, names)
        for rater, entry in result["raters"].items()
    ]
    people = result.get("people")
    if people and people["raters"] > 1:
        blocks.append(_block(f"the mean of {people['raters']} people against the labels", people, names))
    for provenance, entry in (people or {}).get("by_provenance", {}).items():
        blocks.append(_block(f"people against labels by {provenance.replace('_', ' ')}", entry, ()))
    blocks += [_block(pair, entry, names) for pair, entry in result.get("between", {}).items()]
    blocks += [
        _block(f"{rater}, second showing against first", entry, names)
        for rater, entry in result.get("repeats", {}).items()
    ]
    return "\n\n".join(blocks)


def _block(title: str, entry: Mapping[str, Json], names: Sequence[str]) -> str:
    """One comparison as text."""
    columns = [*names, "total"]
    width = max(map(len, columns))
    clips = f"{entry['n']} clip{'s'[: entry['n'] != 1]}"
    if not entry["n"]:
        return f"{title}: no clip has a label that is independent of raters"
    lines = [f"{title}, {clips}", f"  {'':{width}}  {'MAE':20}  {'difference':>10}  weighted kappa"]
    for name in columns:
        row = entry[name]
        weighted = _interval(row["qwk"]) if "qwk" in row else "undefined: all scores are equal"
        lines.append(f"  {name:{width}}  {_interval(row['mae']):20}  {row['bias']:+10.2f}  {weighted}")
    return "\n".join(lines)


def _interval(value: Mapping[str, float]) -> str:
    text = _number(value["value"])
    return f"{text} [{_number(value['low'])}, {_number(value['high'])}]" if "low" in value else text


def _number(value: float) -> str:
    """A number with two decimals and without negative zero."""
    return f"{round(value, 2) + 0.0:.2f}"
