"""`python -m roboalign use`: switch params.yaml to another experiment."""

import argparse

HELP = "switch params.yaml to another experiment"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `use`."""
    parser.epilog = (
        "The variants and values that params.yaml sets besides are reset, and named. Without editing the file: "
        "dvc exp run -S use.experiment=NAME -S 'sources=[a,b]', with the experiment's own sources."
    )
    parser.add_argument("experiment", help="one of specs/experiments/")
    parser.add_argument("--keep", action="store_true", help="keep the variants and values that params.yaml sets")


def run(arguments: argparse.Namespace) -> int:
    """Run `use`; the exit code."""
    from roboalign.spec.library import Library
    from roboalign.spec.use import save, switch_experiment

    text, reset = switch_experiment(Library(arguments.root), arguments.experiment, keep=arguments.keep)
    save(arguments.root, text)
    print(f"params.yaml uses the experiment '{arguments.experiment}'")
    for line in reset:
        print(f"  reset to its choice: {line}")
    return 0
