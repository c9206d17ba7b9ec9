"""`python -m roboalign score`: six scores with intervals for any folder of videos."""

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
    """Score a folder; 0 where every video has scores, 1 where some or all have not, 2 for wrong arguments."""
    try:
        table_of = read_instructions(instructions)
    except InstructionError as error:
        return fail(str(error), 2)
    for place in (folder, options.first_frames):
        if place is not None and not place.is_dir():
            return fail(f"{place} is no folder", 2)
    found = find(folder)
    if not found:
        return fail(f"{folder} holds no videos: neither .mp4, .webm, .gif, .avi, .mov, .mkv, .npy or .npz files nor "
                    "folders of pictures", 2)  # fmt: skip
    try:
        judge = load(which, root, device)
    except JudgeError as error:
        return fail(str(error), 1)
    tasks, problems = match_instructions(found, table_of, options.first_frames)
    results: list[ScoredVideo] = []
    try:
        for number, result in enumerate(score_all(tasks, judge, options), 1):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                results.append(result)
            if sys.stderr.isatty():
                print(f"\r{number} of {len(tasks)} videos", end="\n" if number == len(tasks) else "", file=sys.stderr)
    except StageError as error:  # the server of a judge does not answer, or its budget is spent
        return fail(f"{error}; {len(results)} of {len(tasks)} videos were scored before, and are not kept", 1)
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
        return fail(f"none of {len(found)} videos was scored" + ("" if out is None else f"; {out} is not written"), 1)
    return 1 if problems else 0


def model_name(folder: Path) -> str:
    """A folder's name as the name of a model: lower case, other characters as underscores."""
    return re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")[:64] or "videos"


def fail(text: str, code: int) -> int:
    """One line on stderr, and the exit code."""
    print(f"error: {text}", file=sys.stderr)
    return code
