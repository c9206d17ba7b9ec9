"""The commands by name, and the parser of their arguments; nothing here takes long to import."""

import argparse
from pathlib import Path
from types import ModuleType

from roboalign.cli import (
    annotate,
    bench,
    check,
    convert,
    diff,
    evaluate_policy,
    export,
    init,
    inspect,
    pairs,
    plan,
    push,
    rollout,
    schema,
    score,
    show,
    study,
    use,
    verify,
)
from roboalign.cli.completion import SHELLS, PrintCompletion

COMMANDS: dict[str, ModuleType] = {
    "init": init,
    "check": check,
    "show": show,
    "plan": plan,
    "inspect": inspect,
    "convert": convert,
    "schema": schema,
    "verify": verify,
    "use": use,
    "diff": diff,
    "study": study,
    "bench": bench,
    "annotate": annotate,
    "pairs": pairs,
    "score": score,
    "rollout": rollout,
    "evaluate-policy": evaluate_policy,
    "export": export,
    "push": push,
}
"""Each module has HELP, `add_arguments(parser)` and `run(arguments)`, which imports what it needs."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="roboalign",
        description="RoboAlign: robot video world models, declared in specs/ and run by DVC.",
        epilog="`dvc repro` runs the stages; `dvc exp run -S use.rollout=w12` runs them with one change. "
        "Exit codes: 0 well, 1 something is out of date or damaged, 2 errors in specs or arguments.",
    )
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    parser.add_argument("--print-completion", choices=SHELLS, action=PrintCompletion,
                        help="print a script that completes commands, experiments and files")  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP, description=command.HELP.capitalize() + "."))
    return parser
