"""`python -m roboalign study`: queue the experiments of a study, and write their table."""

import argparse
from pathlib import Path

HELP = "queue the experiments of a study under specs/studies/, and write their table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `study`."""
    parser.epilog = (
        "The runs are DVC experiments of the last commit, one after another; run again after an interruption, it goes "
        "on with what is missing. It writes NAME.md, NAME.json and NAME.svg."
    )
    parser.add_argument("study", metavar="NAME", help="one of specs/studies/")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="FOLDER",
                              help="where to write (docs/results)")  # fmt: skip
    parser.add_argument("--collect", action="store_true", help="run nothing; write the table of finished runs")


def run(arguments: argparse.Namespace) -> int:
    """Run `study`; the exit code."""
    from roboalign.study.command import run as run_study

    return run_study(arguments.root, arguments.study, arguments.out, collect=arguments.collect)
