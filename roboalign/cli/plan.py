"""`python -m roboalign plan`: what `dvc repro` would run."""

import argparse

HELP = "say what `dvc repro` would re-run and why, with sizes and estimates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plan`."""
    parser.add_argument("experiment", nargs="?", help="plan for this one of specs/experiments/, not params.yaml")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run `plan`; the exit code."""
    from roboalign.spec.plan import report

    return report(arguments.root, arguments.experiment, arguments.json)
