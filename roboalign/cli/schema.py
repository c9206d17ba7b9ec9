"""`python -m roboalign schema`: write the JSON Schemas, or say which are out of date."""

import argparse

HELP = "write or check the JSON Schemas that editors use"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `schema`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--write", action="store_true", help="write specs/.schema/ (the default)")
    group.add_argument("--check", action="store_true", help="exit with 1 where specs/.schema/ is out of date")


def run(arguments: argparse.Namespace) -> int:
    """Run `schema`; the exit code."""
    from roboalign.spec.schema import FOLDER, stale, write

    folder = arguments.root / FOLDER
    names = stale(folder) if arguments.check else write(folder)
    for name in names:
        print(f"{FOLDER / name}: {'out of date; run `python -m roboalign schema`' if arguments.check else 'written'}")
    if not names:
        print(f"{FOLDER} is up to date")
    return 1 if arguments.check and names else 0
