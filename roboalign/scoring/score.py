"""Scores all videos of a folder: scores with intervals, warnings, and the videos that could not be scored."""

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
from roboalign.sources.readers.image_transform import crop_bounds
from roboalign.sources.readers.spec import ImageTransformSpec

Fit = Literal["crop", "pad", "stretch"]

UNSEEN = 0.1
"""Fraction of a frame that may be cropped without a warning."""
RATE = 1.25
"""Factor by which the frame rate may be above or below that of all sources without a warning (our choice)."""


@dataclass(frozen=True)
class Options:
    """Options for reading and scoring videos."""

    name: str
    fit: Fit = "crop"
    """For videos with another aspect ratio than the judge's: crop, add black borders, or distort. The default is that
    of the sources."""
    stride: int = 1
    """Frame stride: every n-th frame is scored."""
    level: float = 0.9
    """Coverage of the intervals of single videos."""
    like: Kind = "generated"
    """Validation pairs of the bench that calibrate the intervals; `all` is used if there are too few of this kind."""
    first_frames: Path | None = None
    """Folder of images, each prepended to the frames of the video with the same name."""


@dataclass(frozen=True, slots=True)
class Task:
    """A video to score: name, file, instruction, and the image to prepend, if any."""

    name: str
    path: Path
    instruction: str
    first: Path | None


def match_instructions(
    videos: Mapping[str, Path], instructions: Mapping[str, str], first_frames: Path | None
) -> tuple[list[Task], list[Problem]]:
    """Match videos with instructions.

    Args:
        videos: The videos by name.
        instructions: Instructions by name of the video, with or without extension.
        first_frames: A folder of first frames; None for none.

    Returns:
        The matched videos, and problems for videos and instructions without a match.
    """
    by_stem: dict[str, list[str]] = {}
    for name, path in videos.items():
        by_stem.setdefault(_stem(name, path), []).append(name)
    tasks: list[Task] = []
    problems: list[Problem] = []
    matched: dict[str, str] = {}
    for key, instruction in instructions.items():
        names = [key] if key in videos else by_stem.get(key, [])
        if len(names) != 1:
            reason = f"the name matches {', '.join(names)}; add the extension" if names else "there is no such video"
            problems.append(Problem(video=key, reason=reason))
            continue
        name = names[0]
        if name in matched:
            problems.append(Problem(video=key, reason=f"{name} has an instruction as '{matched[name]}' already"))
            continue
        matched[name] = key
        stem = _stem(name, videos[name])
        # Names without extension, unless two videos differ in their extension only.
        label = stem if len(by_stem[stem]) == 1 else name
        first = None
        if first_frames is not None:
            images = [first_frames / f"{stem}{extension}" for extension in PICTURES]
            first = next((image for image in images if image.exists()), None)
            if first is None:
                problems.append(Problem(video=label, reason=f"there is no first frame {first_frames / stem}.png"))
                continue
        tasks.append(Task(label, videos[name], instruction, first))
    problems += [Problem(video=name, reason="it has no instruction") for name in videos if name not in matched]
    return sorted(tasks, key=lambda task: task.name), sorted(problems, key=lambda problem: problem.video)


def _stem(name: str, path: Path) -> str:
    """The name of a video without its extension; folders have none."""
    return name if path.is_dir() else PurePosixPath(name).with_suffix("").as_posix()


def score_all(tasks: Sequence[Task], judge: LoadedJudge, options: Options) -> Iterator[ScoredVideo | Problem]:
    """Score the videos one after another; a video that cannot be read yields a Problem."""
    calibration = judge.calibration
    size = ImageTransformSpec(height=calibration.height, width=calibration.width, fit=options.fit)
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
    """The scores of one clip with intervals, clipped to the range of scores, by dimension and `total`.

    Args:
        samples: Raw scores (S, D) of S draws.
        judge: The scorer.
        level: Coverage of the intervals.
        kind: The pairs that calibrate the intervals.
    """
    columns = [*judge.reward.names, TOTAL]
    max_scores = [*judge.reward.max_scores, judge.reward.max_total]
    values = np.concatenate([samples, samples.sum(1, keepdims=True)], axis=1)
    errors = judge.calibration.errors[kind]
    result: dict[str, ScoreEstimate] = {}
    for name, max_score, column in zip(columns, max_scores, values.T, strict=True):
        score = float(column.mean())
        half = errors.half_width(name, level)
        result[name] = ScoreEstimate(
            score=score,
            low=None if half is None else max(0.0, score - half),
            high=None if half is None else min(float(max_score), score + half),
            spread=float(column.std(ddof=1)) if len(column) > 1 else None,
        )
    return result


def warnings(video: Video, instruction: str, judge: LoadedJudge, size: ImageTransformSpec) -> Iterator[str]:
    """The differences of a video from the judge's training data.

    Args:
        video: The video.
        instruction: Its instruction.
        judge: The scorer.
        size: Size and fit of the frames.
    """
    calibration, vocabulary = judge.calibration, judge.vocabulary
    instruction_words = words(instruction)
    known = instruction_words if vocabulary is None else vocabulary.known
    unknown = list(dict.fromkeys(word for word in instruction_words if word not in set(known)))
    if unknown:
        yield f"words that are not in the judge's training data: {', '.join(unknown)}"
    elif not instruction_words:
        yield "the instruction has no words"
    if vocabulary is not None and len(instruction_words) > vocabulary.length:
        yield f"{len(instruction_words)} words, of which the judge reads {vocabulary.length}"
    height, width = video.size
    if height < calibration.height or width < calibration.width:
        yield f"frames of {height} x {width} are enlarged to {calibration.height} x {calibration.width}"
    top, bottom, left, right = crop_bounds(height, width, size)
    visible = (bottom - top) * (right - left) / (height * width)
    if visible < 1 - UNSEEN:
        yield f"{1 - visible:.0%} of each frame is cropped; use --fit pad or stretch to keep it"
    if video.palette:
        yield "a GIF has few colours, which lowers scores like noise; use a video, images or an array"
    low, high = calibration.frames
    if not low <= len(video.frames) <= high:
        yield f"{len(video.frames)} frames; the judge was trained on {low} to {high}"
    slow, fast = calibration.fps
    if video.fps is not None and not slow / RATE <= video.fps <= fast * RATE:
        stride = round(video.fps / fast)
        remedy = f"; use --stride {stride}" if stride > 1 else ""
        yield f"{video.fps:.3g} frames per second; the judge was trained on {slow:.3g} to {fast:.3g}{remedy}"


def score_file(
    results: Sequence[ScoredVideo], problems: Sequence[Problem], judge: LoadedJudge, options: Options
) -> ScoreFile:
    """The content of a file of scores.

    Args:
        results: The scored videos, at least one.
        problems: The videos that were not scored.
        judge: The scorer.
        options: How videos were read and scored.
    """
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
