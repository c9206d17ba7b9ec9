"""`python -m roboalign annotate`: people score the bench's clips."""

import argparse
import sys
from pathlib import Path

HELP = "let people score the bench's clips, blind, and compare their scores with the labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `annotate`."""
    parser.epilog = (
        "Without options: writes one page that works offline and gives its scores as a download. --serve saves each "
        "score to a file at once. Either file is what --agreement reads, and what the bench's spec takes as "
        "annotations."
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("out", nargs="?", type=Path, default=Path("annotate.html"), metavar="OUT.html",
                     help="the page to write (annotate.html)")  # fmt: skip
    way.add_argument("--serve", action="store_true", help="serve the page to this machine, saving after each clip")
    way.add_argument("--agreement", nargs="+", metavar="FILE", help="compare scored files with labels and each other")
    parser.add_argument("--json", action="store_true", help="print the agreement as JSON")
    parser.add_argument("--answers", type=Path, default=Path("annotations.jsonl"), metavar="FILE",
                         help="where --serve saves, and goes on from (annotations.jsonl)")  # fmt: skip
    parser.add_argument("--port", type=int, default=8765, help="of --serve (8765); 0 takes a free one")
    parser.add_argument(
        "--clips", type=int, default=60, metavar="N", help="how many clips (60); one in ten comes twice"
    )
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test",
                         help="whose clips (test)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="which clips are drawn (0)")
    parser.add_argument("--rater", default="", metavar="NAME", help="who scores; decides the order of the clips")


def run(arguments: argparse.Namespace) -> int:
    """Run `annotate`; the exit code."""
    from roboalign.annotate import command

    for name, low, high in (("clips", 1, 10_000), ("seed", 0, 2**31 - 1), ("port", 0, 65_535)):
        if not low <= getattr(arguments, name) <= high:
            print(f"error: --{name} is {getattr(arguments, name)}; give one of {low} to {high}", file=sys.stderr)
            return 2
    if arguments.agreement:
        return command.compare(arguments.root, arguments.agreement, arguments.json)
    which = arguments.split, arguments.clips, arguments.seed, arguments.rater
    if arguments.serve:
        return command.serve(arguments.root, arguments.port, arguments.answers, *which)
    return command.write(arguments.root, arguments.out, *which)
