"""`python -m roboalign convert`: write a data set as a LeRobotDataset 3."""

import argparse
import sys
from pathlib import Path

from roboalign.cli.source_arguments import cache_folder, parse_options, spec_path

HELP = "write any data set that can be read as a LeRobotDataset 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `convert`."""
    parser.epilog = (
        "The same as the stage `episodes`, without an experiment: a spec's crop, size, stride, filter and splits hold, "
        "damaged episodes are left out and named. For a data set without a spec, the one that `inspect` proposes is "
        "taken. Interrupted, it goes on where it was. Exit codes: 0 written, 1 not, 2 errors in the spec or the "
        "arguments."
    )
    parser.add_argument("source", metavar="SPEC|URI", help="a source's spec or its name, or a data set")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; must not be there yet")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (0: one a core)")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                         help="fsspec's option for the place, such as anon=true; may be repeated")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run `convert`; the exit code."""
    from roboalign.sources.conversion import run as run_conversion
    from roboalign.spec.single import single

    options, wrong = parse_options(arguments.option)
    if arguments.workers < 0:
        wrong.append(f"--workers is {arguments.workers}; give 0 or more")
    if arguments.folder.exists():
        wrong.append(f"{arguments.folder} is there already; remove it, or name another folder")
    if wrong:
        print("\n".join(f"error: {each}" for each in wrong), file=sys.stderr)
        return 2
    path = spec_path(arguments.root, arguments.source)
    spec = single(arguments.root, path, "sources") if path.suffix in (".yaml", ".yml") else None
    cache, workers = cache_folder(arguments.root), arguments.workers
    return run_conversion(arguments.source, spec, arguments.folder, options=options, workers=workers, cache=cache)
