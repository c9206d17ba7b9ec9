"""`python -m roboalign push`: upload an exported folder to the Hugging Face hub."""

import argparse
import sys
from pathlib import Path

HELP = "upload an exported folder to the Hugging Face hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `push`."""
    parser.epilog = "Exit codes: 0 uploaded, 1 not."
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what `export` wrote")
    parser.add_argument("repository", metavar="REPO", help="owner/name on the hub; made if it does not exist")
    parser.add_argument("--private", action="store_true", help="make a new repository private")


def run(arguments: argparse.Namespace) -> int:
    """Run `push`; the exit code."""
    from roboalign.checkpoint import CheckpointError
    from roboalign.export.push import push_folder

    try:
        address = push_folder(arguments.folder, arguments.repository, private=arguments.private)
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"uploaded as {address}")
    return 0
