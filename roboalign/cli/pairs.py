"""`python -m roboalign pairs`: people compare rollouts of two models, blind."""

import argparse
import sys
from pathlib import Path

HELP = "let people choose the better of two rollouts, blind, and read their preferences"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pairs`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="write one offline page for all raters, and its key")
    build.add_argument("out", nargs="?", type=Path, default=Path("pairs.html"), metavar="OUT.html",
                       help="the page to write (pairs.html); the key goes beside it, as OUT.key.json")  # fmt: skip
    build.add_argument("--models", nargs="+", default=[], metavar="NAME",
                       help="clip sets of the rollout stage (supervised AR and SWR, aligned SWR)")  # fmt: skip
    build.add_argument("--pairs", type=int, default=60, metavar="N", help="how many pairs (60)")
    build.add_argument("--checks", type=int, default=6, metavar="N", help="how many attention checks besides (6)")
    build.add_argument("--seed", type=int, default=0, help="which pairs are drawn (0)")
    read = actions.add_parser("read", help="Bradley-Terry scores, win rates and the agreement of raters")
    read.add_argument("answers", nargs="+", type=Path, metavar="ANSWERS.jsonl", help="files that raters downloaded")
    read.add_argument("--key", type=Path, default=Path("pairs.key.json"), metavar="FILE",
                      help="the key of the study (pairs.key.json)")  # fmt: skip
    read.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run `pairs`; the exit code."""
    if arguments.action == "build":
        for name, low, high in (("pairs", 1, 10_000), ("checks", 0, 1_000), ("seed", 0, 2**31 - 1)):
            if not low <= getattr(arguments, name) <= high:
                print(f"error: --{name} is {getattr(arguments, name)}; give one of {low} to {high}", file=sys.stderr)
                return 2
    from roboalign.preference import command

    if arguments.action == "read":
        return command.read(arguments.answers, arguments.key, arguments.json)
    return command.build(
        arguments.root, arguments.out, arguments.models, arguments.pairs, arguments.checks, arguments.seed
    )
