"""`python -m roboalign check`: validate specs, all errors at once."""

import argparse
import sys

from roboalign.spec.diagnostics import has_errors, render, summary, to_json

HELP = "validate params.yaml and everything under specs/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    parser.add_argument("experiment", nargs="?", help="check this one of specs/experiments/ alone")
    parser.add_argument("--json", action="store_true", help="print a JSON list of errors, for editors")


def run(arguments: argparse.Namespace) -> int:
    """Run `check`; the exit code."""
    from roboalign.spec.check import check as checked
    from roboalign.spec.check import describe_uncommitted_params, overrides
    from roboalign.spec.library import EXPERIMENTS, FOLDERS, Library

    experiment = arguments.experiment
    library = Library(arguments.root)
    found = checked(library, experiment)
    if arguments.json:
        print(to_json(found))
        return 2 if has_errors(found) else 0
    for item in found:
        print(render(item), file=sys.stderr)
    if has_errors(found):
        print(summary(found), file=sys.stderr)
        if experiment is None and (hint := describe_uncommitted_params(library)):
            print(hint, file=sys.stderr)
        return 2
    if experiment is not None:
        print(f"the experiment '{experiment}' is valid")
        return 0
    count = sum(len(library.names(folder)) for folder in FOLDERS if folder != EXPERIMENTS)
    print(f"valid: {count} specs, {len(library.names(EXPERIMENTS))} experiments, params.yaml")
    for line in overrides(library):
        print(f"params.yaml sets {line}")
    return 0
