"""`python -m roboalign show`: print resolved sections as YAML."""

import argparse

from roboalign.spec.document import COMMAND_LINE

HELP = "print the resolved experiment, or one part of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `show`."""
    parser.add_argument("part", nargs="?", help="a section, or a field such as rollout.decodings.swr.window")
    parser.add_argument("--experiment", metavar="NAME", help="one of specs/experiments/ instead of params.yaml")
    parser.add_argument("--origins", action="store_true", help="say for each field which line of which file set it")


def run(arguments: argparse.Namespace) -> int:
    """Run `show`; the exit code."""
    from roboalign.spec.compose import compose, compose_params
    from roboalign.spec.library import Library
    from roboalign.spec.show import show_section

    experiment = arguments.experiment
    library = Library(arguments.root)
    composition = compose_params(library) if experiment is None else compose(library, experiment, COMMAND_LINE)
    composition.require()
    print(show_section(composition, arguments.part, arguments.origins), end="")
    return 0
