"""`python -m roboalign score`: score a folder of videos."""

import argparse
import re
import sys
from pathlib import Path

HELP = "score any folder of videos by the judge, with intervals"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `score`."""
    parser.epilog = (
        "Each score stands with an interval that holds the label of at least --level of the bench's own clips; the "
        "means have their 95 %% interval over videos. Exit code 1: some videos could not be scored, and are named. A "
        "file from --json enters the evaluation's tables by the field external of specs/evaluation."
    )
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="a folder of videos, arrays or folders of pictures")
    parser.add_argument("--instructions", type=Path, required=True, metavar="FILE",
                         help="JSONL, JSON or CSV of video and instruction")  # fmt: skip
    parser.add_argument("--judge", default="judge", metavar="judge|student|PATH|URI",
                         help="who scores (judge); the path or URI of an exported one needs no experiment")  # fmt: skip
    parser.add_argument("--name", metavar="MODEL", help="the model that made the videos (the folder's name)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores to this file, too")
    parser.add_argument("--fit", choices=("crop", "pad", "stretch"), default="crop",
                         help="what becomes of another aspect ratio (crop, as sources do)")  # fmt: skip
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="take every Nth frame (1)")
    parser.add_argument("--first-frames", type=Path, metavar="FOLDER",
                         help="pictures, named as the videos, to put before videos that begin after it")  # fmt: skip
    parser.add_argument("--level", type=float, default=0.9, help="of the intervals of single videos (0.9)")
    parser.add_argument("--like", choices=("generated", "all"), default="generated",
                         help="which of the bench's clips tell the judge's error: world models' rollouts, the default, "
                         "or clips of all origins")  # fmt: skip
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Run `score`; the exit code."""
    if not 0 < arguments.level < 1:
        print(f"error: --level is {arguments.level:g}; give a share between 0 and 1", file=sys.stderr)
        return 2
    if arguments.stride < 1:
        print(f"error: --stride is {arguments.stride}; give 1 or more", file=sys.stderr)
        return 2
    if arguments.name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", arguments.name):
        print(f"error: --name is '{arguments.name}'; give lower-case letters, digits and underscores", file=sys.stderr)
        return 2
    from roboalign.scoring.command import model_name
    from roboalign.scoring.command import run as run_scoring
    from roboalign.scoring.score import Options

    name = arguments.name or model_name(arguments.videos)
    options = Options(name, arguments.fit, arguments.stride, arguments.level, arguments.like, arguments.first_frames)
    return run_scoring(
        arguments.root, arguments.videos, arguments.instructions, arguments.judge, options, arguments.json,
        arguments.device,
    )  # fmt: skip
