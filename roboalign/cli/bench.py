"""`python -m roboalign bench export`: the bench's clips for people or vision-language models."""

import argparse
import sys
from pathlib import Path

HELP = "export the bench's clips, to be labelled by people or vision-language models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench`."""
    export = parser.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser(
        "export", help="write clips, strips of their frames, and instructions for raters into a folder"
    )
    export.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write")
    export.add_argument("--clips", type=int, default=0, metavar="N", help="number of clips (default: all)")
    export.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="split of the clips (default: test)"
    )
    export.add_argument("--blind", action="store_true", help="leave out scores and origins")


def run(arguments: argparse.Namespace) -> int:
    """Run `bench`; the exit code."""
    import yaml

    from roboalign.bench.export import choose_pairs, export
    from roboalign.bench.pairs import Bench
    from roboalign.reward.spec import RewardSpec
    from roboalign.store import Corpus

    root, folder, split = arguments.root, arguments.folder, arguments.split
    if arguments.clips < 0:
        print(f"error: --clips is {arguments.clips}; give a number of clips, or 0 for all", file=sys.stderr)
        return 2
    try:
        section = yaml.safe_load((root / "build/spec/reward.yaml").read_text(encoding="utf-8"))
        reward = RewardSpec.model_validate(section["reward"])
        corpus = Corpus.open(root / "artifacts/sources/index.json")
        bench = Bench.open(root / "artifacts/bench", corpus, reward.names)
        rows = choose_pairs(bench.pairs, split, arguments.clips)
        if not rows:
            raise ValueError(f"the bench has no clip in the {split} split")
        export(folder, bench, rows, reward, corpus.stores[0].fps, blind=arguments.blind)
    except (OSError, ValueError) as error:
        print(f"error: {error} (`dvc repro bench` builds the bench)", file=sys.stderr)
        return 1
    print(f"{folder}: {len(rows)} clips of the {split} split; {folder / 'README.md'} has the instructions for raters")
    return 0
