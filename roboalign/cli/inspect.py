"""`python -m roboalign inspect`: look at a source."""

import argparse
import sys
from pathlib import Path

from roboalign.cli.source_arguments import cache_folder, parse_options, spec_path

HELP = "look at a source: what it holds, what its spec makes of it; or propose a spec for any data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `inspect`."""
    parser.epilog = (
        "Inspects some episodes from all parts of a data set, which takes seconds. For a data set without a spec, "
        "recognises the format and prints a spec: RLDS, LeRobot 2.1 and 3, CALVIN, LIBERO and robomimic, ALOHA, "
        "Ctrl-World, .npz episodes, videos with JSON Lines. A NAME is shown with the values that the experiment of "
        "params.yaml sets, the path of its file without them. Exit codes: 0 usable, 1 unusable or unreachable, "
        "2 errors in the spec or the arguments."
    )
    parser.add_argument("target", metavar="SPEC|URI", help="a source's spec or its name; a data set, or a store")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--episodes", type=int, metavar="N", help="episodes to inspect (default: 20; 4 for simulators); 0 for all"
    )
    parser.add_argument("--sheet", type=Path, metavar="OUT.png", help="draw a contact sheet: episodes over time")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                         help="option of fsspec for the URI, such as anon=true; may be repeated")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run `inspect`; the exit code."""
    from roboalign.sources.inspection.command import Request
    from roboalign.sources.inspection.command import run as run_inspection
    from roboalign.spec.single import resolve_source, single

    options, wrong = parse_options(arguments.option)
    if arguments.episodes is not None and arguments.episodes < 0:
        wrong.append(f"--episodes is {arguments.episodes}; give 0 or more")
    if arguments.sheet is not None and arguments.sheet.suffix.lower() != ".png":
        wrong.append(f"--sheet is {arguments.sheet}; its name must end in .png")
    if wrong:
        print("\n".join(f"error: {each}" for each in wrong), file=sys.stderr)
        return 2
    path = spec_path(arguments.root, arguments.target)
    is_spec = path.suffix in (".yaml", ".yml")
    by_name = is_spec and path.resolve() == (arguments.root / "specs/sources" / f"{path.name}").resolve()
    overrides: list[str] = []
    if by_name and "/" not in arguments.target:
        spec, overrides = resolve_source(arguments.root, path.stem)
    else:
        spec = single(arguments.root, path, "sources") if is_spec else None
    target = path.stem if is_spec else arguments.target
    cache = cache_folder(arguments.root)
    request = Request(target, arguments.episodes, arguments.json, arguments.sheet, options, cache, tuple(overrides))
    return run_inspection(request, spec)
