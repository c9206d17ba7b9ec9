"""`roboalign init`: create a project."""

import argparse
import shlex
import sys
from pathlib import Path

HELP = "create a project: specs, stages, graph and code, ready for `dvc repro`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `init`."""
    parser.epilog = (
        "The project is a git repository of its own, with the code of this installation. Exit codes: 0 created, "
        "1 a file cannot be written, 2 the folder is not empty, or git is missing."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder, or an empty one")


def run(arguments: argparse.Namespace) -> int:
    """Run `init`; the exit code."""
    from roboalign.project.create import ProjectError, create_project

    folder: Path = arguments.folder
    try:
        create_project(folder)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    here = folder.resolve() == Path.cwd()
    first = "roboalign check" if here else f"cd {shlex.quote(str(folder))}"
    print(f"{'this folder' if here else folder} is a project now; next:")
    for command in (first, "roboalign use smoke", "dvc repro"):
        print(f"  {command}")
    return 0
