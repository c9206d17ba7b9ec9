"""`python -m roboalign verify`: re-hash what the stages produced."""

import argparse

HELP = "re-hash what the stages produced and name damaged files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `verify`."""
    parser.add_argument("--cache", action="store_true", help="re-hash DVC's cache too")
    parser.add_argument("--remote", metavar="NAME", help="download and re-hash what this DVC remote holds too")
    parser.add_argument("--run-cache", action="store_true", help="re-hash DVC's recorded runs too")


def run(arguments: argparse.Namespace) -> int:
    """Run `verify`; the exit code."""
    from roboalign.spec.verify import report

    return report(arguments.root, arguments.cache, arguments.remote, arguments.run_cache)
