"""Shell completion: `roboalign --print-completion bash` prints a script, made by shtab from the arguments."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh", "tcsh", "fish")

VARIANTS = {"experiment": "experiments", "study": "studies", "source": "sources", "target": "sources"}
"""The folder of specs/ whose files are the values of an argument, by the argument's name."""

FOLDERS = ("FOLDER", "VIDEOS", "A", "B")
"""Metavars of arguments that are folders."""


class PrintCompletion(argparse.Action):
    """Print the completion script for a shell and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print the script of the shell `values`."""
        import shtab

        for action in list_actions(parser):
            if action.choices is None and (completion := find_completion(action)) is not None:
                vars(action)["complete"] = completion  # where shtab looks
        print(shtab.complete(parser, shell=str(values)))
        parser.exit()


def list_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in {id(each): each for each in action.choices.values()}.values():
                yield from list_actions(command)
        else:
            yield action


def find_completion(action: argparse.Action) -> Any:
    """The completion of an argument for shtab: folders, files, or names of a folder of specs/; None for none."""
    import shtab

    from roboalign.spec.experiment import KINDS

    if action.dest in VARIANTS:
        # The shell runs this in the current folder, so the names are those of the project there.
        return shtab.cmd(f"ls specs/{VARIANTS[action.dest]} 2>/dev/null | sed -n 's/[.]yaml$//p'")
    if action.dest == "part":
        return shtab.cmd(f"echo {' '.join(KINDS)}")
    if action.metavar in FOLDERS:
        return shtab.DIRECTORY
    return shtab.FILE if action.type is Path else None
