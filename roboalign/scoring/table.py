"""Formats a file of scores as text."""

from collections import Counter

from roboalign.bench.calibration import TOTAL
from roboalign.evaluation.external import ScoreEstimate, ScoreFile


def table(file: ScoreFile) -> str:
    """One line for each video, then the means by dimension, the meaning of the intervals, and the warnings."""
    short = _short(file.dimensions)
    width = max(5, *(len(video.video) for video in file.videos))
    lines = [f"{'video':{width}}  " + "  ".join(f"{name:>5}" for name in short.values()) + f"  {'total':>5}"]
    for video in file.videos:
        cells = "  ".join(f"{video.scores[name].score:5.2f}" for name in file.dimensions)
        lines.append(f"{video.video:{width}}  {cells}  {_estimate(video.scores[TOTAL])}")
    videos = f"{len(file.videos)} video{'s'[: len(file.videos) != 1]}"
    lines += ["", f"mean of {videos} by the {file.scorer}, with its 95 % interval over videos"]
    names = {**{name: f"{name} ({letters})" for name, letters in short.items()}, TOTAL: TOTAL}
    widest = max(map(len, names.values()))
    for name, text in names.items():
        mean = file.mean[name]
        lines.append(f"  {text:{widest}}  {mean.mean:5.2f} [{mean.low:.2f}, {mean.high:.2f}]")
    if any(video.scores[TOTAL].low is None for video in file.videos):
        lines.append(f"no intervals of single videos: {file.calibration_pairs} validation pairs are too few for "
                     f"{file.level:.0%}")  # fmt: skip
    else:
        origin = "rollouts of world models" if file.like == "generated" else "clips of all origins"
        lines.append(
            f"intervals of single videos: contain the label of {file.level:.0%} of clips like the bench's {origin} "
            f"(conformal, {file.calibration_pairs} validation pairs)"
        )
    counts = Counter(warning for video in file.videos for warning in video.warnings)
    if counts:
        lines += ["", "scores may be unreliable:"]
        lines += [f"  {count} of {len(file.videos)}: {warning}" for warning, count in counts.most_common()]
    return "\n".join(lines)


def _estimate(value: ScoreEstimate) -> str:
    """A score with its interval, if it has one."""
    text = f"{value.score:5.2f}"
    return text if value.low is None else f"{text} [{value.low:.2f}, {value.high:.2f}]"


def _short(names: tuple[str, ...]) -> dict[str, str]:
    """Short names of the dimensions: their initials, or their numbers if initials are not unique."""
    letters = {name: "".join(word[0] for word in name.split("_") if word).upper()[:5] for name in names}
    if len(set(letters.values())) == len(names):
        return letters
    return {name: str(number) for number, name in enumerate(names, 1)}
