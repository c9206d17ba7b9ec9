"""`python -m roboalign bench export`: the bench's clips for people or vision-language models."""

import argparse
from pathlib import Path

HELP = "export the bench's clips, to be labelled by people or vision-language models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench`."""
    export = parser.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser(
        "export", help="write clips, strips of their frames, and what to do with them, into a folder"
    )
    export.add_argument("folder", type=Path, metavar="FOLDER", help="where to write")
    export.add_argument("--clips", type=int, default=0, metavar="N", help="how many clips (all)")
    export.add_argument("--split", choices=("train", "validation", "test"), default="test", help="whose clips (test)")
    export.add_argument("--blind", action="store_true", help="leave out scores and where a clip comes from")


def run(arguments: argparse.Namespace) -> int:
    """Run `bench`; the exit code."""
    from roboalign.bench.export import run as export

    return export(arguments.root, arguments.folder, arguments.split, arguments.clips, blind=arguments.blind)
