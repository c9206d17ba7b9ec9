"""`python -m roboalign export`: write a trained part as a folder in Hugging Face's layout."""

import argparse
import sys
from pathlib import Path

HELP = "write a trained part as a folder: safetensors, config.json, model card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `export`."""
    parser.epilog = (
        "Reads artifacts/PART and metrics/PART.json. `rl` is the aligned world model. A world model that is a plain "
        "LLaMA can be loaded with transformers; every folder can be named under `init` of a spec. Exit codes: 0 "
        "written, 1 not trained or damaged."
    )
    parser.add_argument("part", choices=("tokenizer", "world_model", "rl", "judge", "held_out", "student"),
                        metavar="PART", help="tokenizer, world_model, rl, judge, held_out or student")  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; files in it are replaced")


def run(arguments: argparse.Namespace) -> int:
    """Run `export`; the exit code."""
    from roboalign.checkpoint import CheckpointError
    from roboalign.export.folder import export_part

    try:
        export_part(arguments.root, arguments.part, arguments.folder)
    except (CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.part} is in {arguments.folder}")
    return 0
