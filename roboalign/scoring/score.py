"""Every video of a folder to a score file: the scores with their intervals, warnings, and what could not be scored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch

from roboalign.bench.calibration import TOTAL, Kind
from roboalign.evaluation.external import Mean, Problem, ScoredVideo, ScoreEstimate, ScoreFile
from roboalign.metrics.statistics import bootstrap
from roboalign.reward.text import words
from roboalign.scoring.judges import LoadedJudge
from roboalign.scoring.videos import PICTURES, Video, VideoError, read
from roboalign.sources.readers.pictures import crop_bounds
from roboalign.sources.readers.spec import PictureSpec

Fit = Literal["crop", "pad", "stretch"]

UNSEEN = 0.1
"""Share of a picture that may be cropped without a warning."""
RATE = 1.25
"""Factor by which frames may come faster or slower than in any source without a warning. Our choice."""


@dataclass(frozen=True)
class Options:
    """How videos are read and scored."""

    name: str
    fit: Fit = "crop"
    """Where the aspect ratio is not the judge's: cut off, add black, or distort. The default is the sources' own."""
    stride: int = 1
    level: float = 0.9
    """Of the intervals of single videos."""
    like: Kind = "generated"
    """Which of the bench's validation pairs the videos are like; `all` where there are too few of that kind."""
    first_frames: Path | None = None
    """A folder of pictures, each put before the frames of the video of its name."""


@dataclass(frozen=True, slots=True)
class Task:
    """One video to score: its name, its file, its instruction, and the picture to put first."""

    name: str
    path: Path
    instruction: str
    first: Path | None


def match_instructions(
    found: Mapping[str, Path], instructions: Mapping[str, str], first_frames: Path | None
) -> tuple[list[Task], list[Problem]]:
    """Each video with its instruction, by name with or without its ending; and what has no counterpart."""
    by_stem: dict[str, list[str]] = {}
    for name, path in found.items():
        by_stem.setdefault(_stem(name, path), []).append(name)
    tasks: list[Task] = []
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    for key, instruction in instructions.items():
        names = [key] if key in found else by_stem.get(key, [])
        if len(names) != 1:
            reason = f"the name fits {', '.join(names)}; give the ending" if names else "there is no such video"
            problems.append(Problem(video=key, reason=reason))
            continue
        name = names[0]
        if name in taken:
            problems.append(Problem(video=key, reason=f"{name} has an instruction as '{taken[name]}' already"))
            continue
        taken[name] = key
        stem = _stem(name, found[name])
        # Two videos that differ in their endings alone keep them.
        label = stem if len(by_stem[stem]) == 1 else name
        first = None
        if first_frames is not None:
            pictures = [first_frames / f"{stem}{ending}" for ending in PICTURES]
            first = next((picture for picture in pictures if picture.exists()), None)
            if first is None:
                problems.append(Problem(video=label, reason=f"there is no first frame {first_frames / stem}.png"))
                continue
        tasks.append(Task(label, found[name], instruction, first))
    problems += [Problem(video=name, reason="it has no instruction") for name in found if name not in taken]
    return sorted(tasks, key=lambda task: task.name), sorted(problems, key=lambda problem: problem.video)


def _stem(name: str, path: Path) -> str:
    return name if path.is_dir() else PurePosixPath(name).with_suffix("").as_posix()


def score_all(tasks: Sequence[Task], judge: LoadedJudge, options: Options) -> Iterator[ScoredVideo | Problem]:
    """Score one video after another; a video that cannot be read becomes a problem and stops nothing."""
    calibration = judge.calibration
    size = PictureSpec(height=calibration.height, width=calibration.width, fit=options.fit)
    for task in tasks:
        try:
            video = read(task.path, size, options.stride, task.first)
        except VideoError as error:
            yield Problem(video=task.name, reason=str(error))
            continue
        clip = torch.from_numpy(np.ascontiguousarray(video.frames.transpose(0, 3, 1, 2))).unsqueeze(0)
        samples = judge.sample(clip, [task.instruction])[:, 0].double().cpu().numpy()
        yield ScoredVideo(
            video=task.name,
            instruction=task.instruction,
            frames=len(video.frames),
            fps=video.fps,
            size=video.size,
            scores=estimates(samples, judge, options.level, calibration.usable(options.like, options.level)),
            warnings=tuple(warnings(video, task.instruction, judge, size)),
        )


def estimates(samples: np.ndarray, judge: LoadedJudge, level: float, kind: Kind) -> dict[str, ScoreEstimate]:
    """The scores of one clip from (S, D) scorings: their means, with intervals cut to what can be scored."""
    columns = [*judge.reward.names, TOTAL]
    maxima = [*judge.reward.max_scores, judge.reward.max_total]
    values = np.concatenate([samples, samples.sum(1, keepdims=True)], axis=1)
    known = judge.calibration.errors[kind]
    result: dict[str, ScoreEstimate] = {}
    for name, maximum, column in zip(columns, maxima, values.T, strict=True):
        score = float(column.mean())
        half = known.half_width(name, level)
        result[name] = ScoreEstimate(
            score=score,
            low=None if half is None else max(0.0, score - half),
            high=None if half is None else min(float(maximum), score + half),
            spread=float(column.std(ddof=1)) if len(column) > 1 else None,
        )
    return result


def warnings(video: Video, instruction: str, judge: LoadedJudge, size: PictureSpec) -> Iterator[str]:
    """In what a video differs from all that the judge was trained on."""
    calibration, vocabulary = judge.calibration, judge.vocabulary
    read_words = words(instruction)
    known = read_words if vocabulary is None else vocabulary.known
    unknown = list(dict.fromkeys(word for word in read_words if word not in set(known)))
    if unknown or not read_words:
        yield f"words that the judge never read: {', '.join(unknown) or 'none at all are given'}"
    if vocabulary is not None and len(read_words) > vocabulary.length:
        yield f"{len(read_words)} words, of which the judge reads {vocabulary.length}"
    height, width = video.size
    if height < calibration.height or width < calibration.width:
        yield f"pictures of {height} x {width} are enlarged to {calibration.height} x {calibration.width}"
    top, bottom, left, right = crop_bounds(height, width, size)
    seen = (bottom - top) * (right - left) / (height * width)
    if seen < 1 - UNSEEN:
        yield f"{1 - seen:.0%} of each picture is cropped; --fit pad or stretch shows all of it"
    if video.palette:
        yield "a GIF's few colours look like noise, which costs points; give a video, pictures or an array"
    low, high = calibration.frames
    if not low <= len(video.frames) <= high:
        yield f"{len(video.frames)} frames; the judge was trained on {low} to {high}"
    slow, fast = calibration.fps
    if video.fps is not None and not slow / RATE <= video.fps <= fast * RATE:
        stride = round(video.fps / fast)
        remedy = f"; --stride {stride} brings them there" if stride > 1 else ""
        yield f"{video.fps:.3g} frames a second; the judge was trained on {slow:.3g} to {fast:.3g}{remedy}"


def score_file(
    results: Sequence[ScoredVideo], problems: Sequence[Problem], judge: LoadedJudge, options: Options
) -> ScoreFile:
    """The document of a folder's scores. There has to be a video."""
    kind = judge.calibration.usable(options.like, options.level)
    mean: dict[str, Mean] = {}
    for name in (*judge.reward.names, TOTAL):
        interval = bootstrap([video.scores[name].score for video in results])
        mean[name] = Mean.model_validate(interval.json())
    return ScoreFile(
        name=options.name,
        scorer=judge.scorer,
        judge=judge.digest,
        dimensions=judge.reward.names,
        fit=options.fit,
        stride=options.stride,
        level=options.level,
        like=kind,
        calibration_pairs=judge.calibration.errors[kind].pairs,
        videos=tuple(results),
        problems=tuple(problems),
        mean=mean,
    )
