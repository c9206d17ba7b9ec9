"""`python -m roboalign diff`: compare two runs."""

import argparse
from pathlib import Path

HELP = "say what differs between two runs, and whether their scores differ by more than noise"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `diff`."""
    parser.epilog = (
        "A and B are revisions of git, names of DVC experiments, or folders of checkouts. Scores of revisions are read "
        "from DVC's cache."
    )
    parser.add_argument("a", metavar="A", help="the run to start from")
    parser.add_argument("b", metavar="B", help="the run to compare with it")
    parser.add_argument("--json", action="store_true", help="print JSON with all differences")
    parser.add_argument("--html", type=Path, metavar="FOLDER",
                        help="also write a page with all differences, and with clips side by side")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run `diff`; the exit code."""
    from roboalign.comparison.command import run as run_diff

    return run_diff(arguments.root, arguments.a, arguments.b, arguments.json, arguments.html)
