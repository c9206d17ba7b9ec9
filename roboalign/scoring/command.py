"""`python -m roboalign score`: scores with intervals for the videos of a folder."""

import re
import sys
from pathlib import Path

from roboalign.evaluation.external import Problem, ScoredVideo
from roboalign.io import write_json
from roboalign.run import StageError
from roboalign.scoring.instructions import InstructionError
from roboalign.scoring.instructions import read as read_instructions
from roboalign.scoring.judges import JudgeError, load
from roboalign.scoring.score import Options, match_instructions, score_all, score_file
from roboalign.scoring.table import table
from roboalign.scoring.videos import find


def run(
    root: Path, folder: Path, instructions: Path, which: str, options: Options, out: Path | None, device: str
) -> int:
    """Score the videos of a folder and print a table.

    Args:
        root: The checkout of the experiment.
        folder: The videos.
        instructions: A table of instructions, see `instructions.py`.
        which: `judge`, `student`, a path of a scorer's file or folder, or a URI of an exported folder.
        options: How videos are read and scored.
        out: A JSON file to write; None for none.
        device: `cpu` or `cuda`.

    Returns:
        The exit code: 0 if all videos were scored, 1 if some were not, 2 for wrong arguments.
    """
    try:
        instruction_of = read_instructions(instructions)
    except InstructionError as error:
        return fail(str(error), 2)
    for path in (folder, options.first_frames):
        if path is not None and not path.is_dir():
            return fail(f"{path} is not a folder", 2)
    videos = find(folder)
    if not videos:
        return fail(
            f"{folder} has no videos: no .mp4, .webm, .gif, .avi, .mov, .mkv, .npy or .npz files, and no folders of "
            "images",
            2,
        )
    try:
        judge = load(which, root, device)
    except JudgeError as error:
        return fail(str(error), 1)
    tasks, problems = match_instructions(videos, instruction_of, options.first_frames)
    results: list[ScoredVideo] = []
    try:
        for number, result in enumerate(score_all(tasks, judge, options), 1):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                results.append(result)
            if sys.stderr.isatty():
                print(f"\r{number} of {len(tasks)} videos", end="\n" if number == len(tasks) else "", file=sys.stderr)
    except StageError as error:  # the judge's server does not answer, or the judge's budget is spent
        return fail(f"{error}; {len(results)} of {len(tasks)} videos were scored before, and are discarded", 1)
    if results:
        file = score_file(results, problems, judge, options)
        print(table(file))
        if out is not None:
            try:
                write_json(out, file.model_dump(mode="json"))
            except OSError as error:
                return fail(f"{out} cannot be written ({error})", 1)
    for problem in problems:
        print(f"not scored: {problem.video}: {problem.reason}", file=sys.stderr)
    if not results:
        return fail(f"none of {len(videos)} videos was scored" + ("" if out is None else f"; {out} is not written"), 1)
    return 1 if problems else 0


def model_name(folder: Path) -> str:
    """The name of a model from a folder's name: lower case, other characters replaced by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")[:64] or "videos"


def fail(text: str, code: int) -> int:
    """Print an error on stderr, and return the exit code `code`."""
    print(f"error: {text}", file=sys.stderr)
    return code
