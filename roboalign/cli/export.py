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
    from roboalign.export.folder import export_part, stage_of
    from roboalign.spec.lock import read_lock

    locked = read_lock(arguments.root).get(stage_of(arguments.part))
    inputs = {} if locked is None else {path: str(dep["md5"]) for path, dep in locked.deps.items() if "md5" in dep}
    try:
        export_part(arguments.root, arguments.part, arguments.folder, inputs, revision(arguments.root))
    except (CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.part} is in {arguments.folder}")
    return 0


def revision(root: Path) -> str:
    """The commit of the checkout, with `+` if tracked files differ from it; empty outside of git."""
    from roboalign.spec.plan import git

    commit = (git(root, "rev-parse", "HEAD") or "").strip()
    changed = commit and (git(root, "status", "--porcelain", "--untracked-files=no") or "").strip()
    return f"{commit}+" if changed else commit
