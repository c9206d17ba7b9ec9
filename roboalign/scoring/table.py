"""A score file as text."""

from collections import Counter

from roboalign.bench.calibration import TOTAL
from roboalign.evaluation.external import ScoreEstimate, ScoreFile


def table(file: ScoreFile) -> str:
    """One line a video, then the means by dimension and the warnings."""
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
        what = "world models' rollouts" if file.like == "generated" else "clips of all origins"
        lines.append(f"intervals of single videos: hold the label of {file.level:.0%} of clips that are drawn as the "
                     f"bench's {what} (conformal, {file.calibration_pairs} validation pairs)")  # fmt: skip
    counts = Counter(warning for video in file.videos for warning in video.warnings)
    if counts:
        lines += ["", "the judge may be out of its depth:"]
        lines += [f"  {count} of {len(file.videos)}: {warning}" for warning, count in counts.most_common()]
    return "\n".join(lines)


def _estimate(value: ScoreEstimate) -> str:
    text = f"{value.score:5.2f}"
    return text if value.low is None else f"{text} [{value.low:.2f}, {value.high:.2f}]"


def _short(names: tuple[str, ...]) -> dict[str, str]:
    """Initials of the dimensions' words, or their numbers where initials are not unique."""
    letters = {name: "".join(word[0] for word in name.split("_") if word).upper()[:5] for name in names}
    if len(set(letters.values())) == len(names):
        return letters
    return {name: str(number) for number, name in enumerate(names, 1)}
