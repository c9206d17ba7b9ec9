"""`python -m roboalign bench export | check`: the bench's clips for people, models and other installations."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from roboalign.spec.base import Spec

S = TypeVar("S", bound="Spec")

HELP = "export the bench's clips for raters, training or comparison, or check that they are scored alike"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    export = actions.add_parser("export", help="write clips, instructions and scores into a folder")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write")
    export.add_argument("--clips", type=int, default=0, metavar="N", help="number of clips (default: all)")
    export.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="split of the clips (default: test)"
    )
    export.add_argument("--blind", action="store_true", help="leave out scores and origins")
    export.add_argument("--format", choices=("videos", "lerobot"), default="videos",
                        help="mp4 files with strips of frames (default), or one LeRobotDataset 3 a source")  # fmt: skip
    export.add_argument("--reference", type=int, metavar="N",
                        help="instead, write N clips with the scores of judge and student, for `check`")  # fmt: skip
    export.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where --reference scores (cpu)")
    check = actions.add_parser(
        "check",
        help="score a reference set again, or validate an exported folder",
        epilog="Exit codes: 0 alike within the set's tolerances, or valid; 1 not.",
    )
    check.add_argument("folder", type=Path, metavar="FOLDER", help="a folder that `bench export` wrote")
    check.add_argument("--models", type=Path, metavar="FOLDER",
                       help="folder of judge/ and student/ (default: the reference set's models/)")  # fmt: skip
    check.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to score (cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Run `bench`; the exit code."""
    if arguments.action == "check":
        return run_check(arguments)
    for option in ("clips", "reference"):
        if (getattr(arguments, option) or 0) < 0:
            print(
                f"error: --{option} is {getattr(arguments, option)}; give a number of clips, or 0 for all",
                file=sys.stderr,
            )
            return 2
    if arguments.reference is not None and (arguments.reference == 0 or arguments.folder.exists()):
        wrong = "--reference is 0; give 1 or more" if arguments.reference == 0 else (
            f"{arguments.folder} exists; remove it, or name another folder"
        )  # fmt: skip
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    stage = "bench" if arguments.reference is None else "student"
    try:
        print(run_export(arguments) if arguments.reference is None else run_reference(arguments))
    except (OSError, ValueError) as error:
        print(f"error: {error} (`dvc pull` or `dvc repro {stage}` brings what is missing)", file=sys.stderr)
        return 1
    return 0


def run_export(arguments: argparse.Namespace) -> str:
    """Write clips; the line to print. Raises OSError or ValueError if the bench cannot be read."""
    from roboalign.bench.export import choose_pairs, export
    from roboalign.bench.pairs import Bench
    from roboalign.reward.spec import RewardSpec
    from roboalign.store import Corpus

    root, folder, split = arguments.root, arguments.folder, arguments.split
    reward = read_section(root, "reward", RewardSpec)
    corpus = Corpus.open(root / "artifacts/sources/index.json")
    bench = Bench.open(root / "artifacts/bench", corpus, reward.names)
    rows = choose_pairs(bench.pairs, split, arguments.clips)
    if not rows:
        raise ValueError(f"the bench has no clip in the {split} split")
    export(folder, bench, rows, reward, corpus, blind=arguments.blind, layout=arguments.format)
    return f"{folder}: {len(rows)} clips of the {split} split; {folder / 'README.md'} has the instructions for raters"


def run_reference(arguments: argparse.Namespace) -> str:
    """Write a reference set; the line to print.

    Raises OSError or ValueError if bench, judge or student cannot be read.
    """
    from roboalign.bench.pairs import read_pairs
    from roboalign.bench.spec import BenchSpec
    from roboalign.reference.write import choose_reference, write_reference
    from roboalign.reward.spec import RewardSpec

    root, folder = arguments.root, arguments.folder
    spec, reward = read_section(root, "bench", BenchSpec), read_section(root, "rubric", RewardSpec)
    pairs = read_pairs(root / "artifacts/bench/pairs.parquet", reward.names)
    rows = choose_reference(pairs, arguments.reference)
    record = write_reference(folder, root, rows, spec, reward, arguments.device)
    return (
        f"{folder}: {len(rows)} clips with the scores of {' and '.join(record.scorers)}; "
        f"`python -m roboalign bench check {folder}` compares an installation with them"
    )


def read_section(root: Path, name: str, kind: "type[S]") -> "S":
    """A resolved section of the experiment at `root`. Raises OSError or ValueError if it is missing or of another
    version."""
    import yaml
    from pydantic import ValidationError

    path = root / f"build/spec/{name}.yaml"
    section = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return kind.model_validate(section[name])
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {field}: {first['msg']}; run `dvc repro compose`") from None
    except (KeyError, TypeError):
        raise ValueError(f"{path} has no section {name}; run `dvc repro compose`") from None


def run_check(arguments: argparse.Namespace) -> int:
    """Run `bench check`; the exit code."""
    from roboalign.bench.exported import read_listing
    from roboalign.reference.records import FILE

    folder = arguments.folder
    try:
        if not (folder / FILE).exists():
            header, clips = read_listing(folder)
            print(f"{folder}: {len(clips)} clips, valid by schema version {header.schema_version}")
            return 0
        from roboalign.reference.check import check_reference

        models = arguments.models or folder / "models"
        alike = True
        for agreement in check_reference(folder, models, arguments.root, arguments.device):
            print(agreement, flush=True)
            alike &= agreement.alike
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("this installation scores alike" if alike else "this installation does NOT score alike")
    return 0 if alike else 1
