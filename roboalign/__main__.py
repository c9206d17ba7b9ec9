"""The command line: `python -m roboalign COMMAND`; `--help` lists the commands.

Each imports what it needs when it runs: those that look at specs and data alone never load torch.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from roboalign.spec.diagnostics import SpecError, failed, nearest, render, summary, to_json
from roboalign.spec.document import COMMAND_LINE

COMMANDS = {
    "check": "validate params.yaml and everything under specs/",
    "show": "print the resolved experiment, or one part of it",
    "plan": "say what `dvc repro` would re-run and why, with sizes and estimates",
    "inspect": "look at a source: what it holds, what its spec makes of it; or propose a spec for any data set",
    "schema": "write or check the JSON Schemas that editors use",
    "verify": "re-hash what the stages produced and name damaged files",
    "use": "switch params.yaml to another experiment",
    "bench": "export the bench's clips, to be labelled by people or vision-language models",
    "annotate": "let people score the bench's clips, blind, and compare their scores with the labels",
    "score": "score any folder of videos by the judge, with intervals",
    "rollout": "show what the world model predicts for an episode's first picture and any actions",
}


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    main = argparse.ArgumentParser(
        prog="python -m roboalign",
        description="RoboAlign: robot video world models, declared in specs/ and run by DVC.",
        epilog="`dvc repro` runs the stages; `dvc exp run -S use.rollout=w12` runs them with one change. "
        "Exit codes: 0 well, 1 something is out of date or damaged, 2 errors in specs or arguments.",
    )
    main.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    commands = main.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add = {
        name: commands.add_parser(name, help=text, description=text.capitalize() + ".")
        for name, text in COMMANDS.items()
    }
    add["check"].add_argument("experiment", nargs="?", help="check this one of specs/experiments/ alone")
    add["check"].add_argument("--json", action="store_true", help="print a JSON list of errors, for editors")
    add["show"].add_argument("part", nargs="?", help="a section, or a field such as rollout.swr.window")
    add["show"].add_argument("--experiment", metavar="NAME", help="one of specs/experiments/ instead of params.yaml")
    add["show"].add_argument(
        "--origins", action="store_true", help="say for each field which line of which file set it"
    )
    add["plan"].add_argument("experiment", nargs="?", help="plan for this one of specs/experiments/, not params.yaml")
    add["plan"].add_argument("--json", action="store_true", help="print JSON")
    group = add["schema"].add_mutually_exclusive_group()
    group.add_argument("--write", action="store_true", help="write specs/.schema/ (the default)")
    group.add_argument("--check", action="store_true", help="exit with 1 where specs/.schema/ is out of date")
    add["verify"].add_argument("--cache", action="store_true", help="re-hash DVC's cache too")
    add["use"].epilog = (
        "The variants and values that params.yaml sets besides are reset, and named. Without editing the file: "
        "dvc exp run -S use.experiment=NAME -S 'sources=[a,b]', with the experiment's own sources."
    )
    add["use"].add_argument("experiment", help="one of specs/experiments/")
    add["use"].add_argument("--keep", action="store_true", help="keep the variants and values that params.yaml sets")
    inspect_arguments(add["inspect"])
    bench_arguments(add["bench"])
    annotate_arguments(add["annotate"])
    score_arguments(add["score"])
    rollout_arguments(add["rollout"])
    return main


def inspect_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `inspect`."""
    command.epilog = (
        "Some episodes are looked at, from places spread over the data set, so that it answers in seconds. For a data "
        "set without a spec, the format is recognised and a spec is printed that can be saved: RLDS, LeRobot 2.1 and "
        "3, CALVIN, LIBERO and robomimic, videos with JSON Lines. Exit codes: 0 usable, 1 not (or not reached), 2 "
        "errors in the spec or the arguments."
    )
    command.add_argument("target", metavar="SPEC|URI", help="a source's spec or its name; a data set, or a store")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--episodes", type=int, metavar="N", help="how many to look at (20; simulated ones 4); 0 all")
    command.add_argument("--sheet", type=Path, metavar="OUT.png", help="draw a contact sheet: episodes over time")
    command.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                         help="fsspec's option for the place, such as anon=true; may be repeated")  # fmt: skip


def bench_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `bench`."""
    export = command.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser(
        "export", help="write clips, strips of their frames, and what to do with them, into a folder"
    )
    export.add_argument("folder", type=Path, metavar="FOLDER", help="where to write")
    export.add_argument("--clips", type=int, default=0, metavar="N", help="how many clips (all)")
    export.add_argument("--split", choices=("train", "validation", "test"), default="test", help="whose clips (test)")
    export.add_argument("--blind", action="store_true", help="leave out scores and where a clip comes from")


def annotate_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `annotate`."""
    command.epilog = (
        "Without options: writes one page that works offline and gives its scores as a download. --serve saves each "
        "score to a file at once. Either file is what --agreement reads, and what the bench's spec takes as "
        "annotations."
    )
    way = command.add_mutually_exclusive_group()
    way.add_argument("out", nargs="?", type=Path, default=Path("annotate.html"), metavar="OUT.html",
                     help="the page to write (annotate.html)")  # fmt: skip
    way.add_argument("--serve", action="store_true", help="serve the page to this machine, saving after each clip")
    way.add_argument("--agreement", nargs="+", metavar="FILE", help="compare scored files with labels and each other")
    command.add_argument("--json", action="store_true", help="print the agreement as JSON")
    command.add_argument("--answers", type=Path, default=Path("annotations.jsonl"), metavar="FILE",
                         help="where --serve saves, and goes on from (annotations.jsonl)")  # fmt: skip
    command.add_argument("--port", type=int, default=8765, help="of --serve (8765); 0 takes a free one")
    command.add_argument(
        "--clips", type=int, default=60, metavar="N", help="how many clips (60); one in ten comes twice"
    )
    command.add_argument("--split", choices=("train", "validation", "test"), default="test",
                         help="whose clips (test)")  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help="which clips are drawn (0)")
    command.add_argument("--rater", default="", metavar="NAME", help="who scores; decides the order of the clips")


def score_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `score`."""
    command.epilog = (
        "Each score stands with an interval that holds the label of at least --level of the bench's own clips; the "
        "means have their 95 %% interval over videos. Exit code 1: some videos could not be scored, and are named. A "
        "file from --json enters the evaluation's tables by the field external of specs/evaluation."
    )
    command.add_argument(
        "videos", type=Path, metavar="VIDEOS", help="a folder of videos, arrays or folders of pictures"
    )
    command.add_argument("--instructions", type=Path, required=True, metavar="FILE",
                         help="JSONL, JSON or CSV of video and instruction")  # fmt: skip
    command.add_argument("--judge", default="teacher", metavar="teacher|student|PATH", help="who scores (teacher)")
    command.add_argument("--name", metavar="MODEL", help="the model that made the videos (the folder's name)")
    command.add_argument("--json", type=Path, metavar="OUT", help="write the scores to this file, too")
    command.add_argument("--fit", choices=("crop", "pad", "stretch"), default="crop",
                         help="what becomes of another aspect ratio (crop, as sources do)")  # fmt: skip
    command.add_argument("--stride", type=int, default=1, metavar="N", help="take every Nth frame (1)")
    command.add_argument("--first-frames", type=Path, metavar="FOLDER",
                         help="pictures, named as the videos, to put before videos that begin after it")  # fmt: skip
    command.add_argument("--level", type=float, default=0.9, help="of the intervals of single videos (0.9)")
    command.add_argument("--like", choices=("generated", "all"), default="generated",
                         help="which of the bench's clips tell the judge's error: world models' rollouts, the default, "
                         "or clips of all origins")  # fmt: skip
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")


def rollout_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `rollout`."""
    command.epilog = "The same as a simulator for Python, with step, reset and branch: roboalign/simulation/load.py."
    command.add_argument("--episode", required=True, metavar="ID", help="a recorded episode, such as fetch/000012")
    command.add_argument("--actions", type=Path, metavar="FILE",
                         help="a row a step in the source's units, .npy or JSON (the recorded ones)")  # fmt: skip
    command.add_argument("--out", type=Path, default=Path("rollout.mp4"), metavar="FILE",
                         help=".mp4, .png (a strip) or .npy (rollout.mp4)")  # fmt: skip
    command.add_argument("--model", choices=("aligned", "supervised"), default="aligned", help="which (aligned)")
    command.add_argument("--decoding", choices=("swr", "ar", "kv_window"), default="swr", help="how (swr)")
    command.add_argument("--window", type=int, default=6, help="frames of swr's segments, or of kv_window (6)")
    command.add_argument("--start", type=int, default=0, metavar="N", help="the episode's frame to begin with (0)")
    command.add_argument("--frames", type=int, default=0, metavar="N", help="how many to predict (one an action)")
    command.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest tokens (0)")
    command.add_argument("--seed", type=int, default=0, help="of the random draws (0)")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = sys.argv[1:] if argv is None else argv
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        suggestion = nearest(words[0], COMMANDS)
        hint = f"did you mean '{suggestion}'?" if suggestion else f"there are: {', '.join(COMMANDS)}"
        print(f"error: unknown command '{words[0]}'; {hint}", file=sys.stderr)
        return 2
    arguments = parser().parse_args(words)
    try:
        return run(arguments)
    except SpecError as error:
        print("\n".join(render(item) for item in error.diagnostics), file=sys.stderr)
        print(summary(error.diagnostics), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(arguments: argparse.Namespace) -> int:
    """One command."""
    match arguments.command:
        case "check":
            return check(arguments.root, arguments.experiment, arguments.json)
        case "show":
            return show(arguments.root, arguments.part, arguments.experiment, arguments.origins)
        case "plan":
            from roboalign.spec.plan import report

            return report(arguments.root, arguments.experiment, arguments.json)
        case "schema":
            return schema(arguments.root, arguments.check)
        case "verify":
            from roboalign.spec.verify import report as verify

            return verify(arguments.root, arguments.cache)
        case "inspect":
            return inspect(arguments)
        case "bench":
            from roboalign.bench.export import run as export

            return export(arguments.root, arguments.folder, arguments.split, arguments.clips, blind=arguments.blind)
        case "annotate":
            return annotate(arguments)
        case "score":
            return score(arguments)
        case "rollout":
            return rollout(arguments)
        case _:
            return use(arguments.root, arguments.experiment, arguments.keep)


def rollout(arguments: argparse.Namespace) -> int:
    """Roll the world model out."""
    from roboalign.simulation.command import run as simulate

    return simulate(
        arguments.root,
        arguments.episode,
        arguments.actions,
        arguments.out,
        model=arguments.model,
        decoding=arguments.decoding,
        window=arguments.window,
        start=arguments.start,
        frames=arguments.frames,
        temperature=arguments.temperature,
        seed=arguments.seed,
        device=arguments.device,
    )


def check(root: Path, experiment: str | None, as_json: bool) -> int:
    """Validate; all errors at once."""
    from roboalign.spec.check import check as checked
    from roboalign.spec.check import overrides
    from roboalign.spec.library import EXPERIMENTS, FOLDERS, Library

    library = Library(root)
    found = checked(library, experiment)
    if as_json:
        print(to_json(found))
        return 2 if failed(found) else 0
    for item in found:
        print(render(item), file=sys.stderr)
    if failed(found):
        print(summary(found), file=sys.stderr)
        return 2
    if experiment is not None:
        print(f"the experiment '{experiment}' is valid")
        return 0
    count = sum(len(library.names(folder)) for folder in FOLDERS if folder != EXPERIMENTS)
    print(f"valid: {count} specs, {len(library.names(EXPERIMENTS))} experiments, params.yaml")
    for line in overrides(library):
        print(f"params.yaml sets {line}")
    return 0


def show(root: Path, path: str | None, experiment: str | None, origins: bool) -> int:
    """Print resolved sections as YAML."""
    from roboalign.spec.compose import compose, compose_params
    from roboalign.spec.library import Library
    from roboalign.spec.show import shown

    library = Library(root)
    composition = compose_params(library) if experiment is None else compose(library, experiment, COMMAND_LINE)
    composition.require()
    print(shown(composition, path, origins), end="")
    return 0


def schema(root: Path, only_check: bool) -> int:
    """Write the JSON Schemas, or say which are out of date."""
    from roboalign.spec.schema import FOLDER, stale, write

    folder = root / FOLDER
    names = stale(folder) if only_check else write(folder)
    for name in names:
        print(f"{FOLDER / name}: {'out of date; run `python -m roboalign schema`' if only_check else 'written'}")
    if not names:
        print(f"{FOLDER} is up to date")
    return 1 if only_check and names else 0


def use(root: Path, experiment: str, keep: bool) -> int:
    """Switch params.yaml."""
    from roboalign.spec.library import Library
    from roboalign.spec.use import save, switched

    text, reset = switched(Library(root), experiment, keep=keep)
    save(root, text)
    print(f"params.yaml uses the experiment '{experiment}'")
    for line in reset:
        print(f"  reset to its choice: {line}")
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """Look at a source."""
    from roboalign.hardware.spec import HardwareSpec
    from roboalign.sources.inspection.command import Request
    from roboalign.sources.inspection.command import run as inspected
    from roboalign.spec.compose import compose_params
    from roboalign.spec.library import Library
    from roboalign.spec.single import single

    pairs = [option.partition("=") for option in arguments.option]
    wrong = [f"--option {name} has no value; write KEY=VALUE" for name, equals, _ in pairs if not (name and equals)]
    if arguments.episodes is not None and arguments.episodes < 0:
        wrong.append(f"--episodes is {arguments.episodes}; give 0 or more")
    if arguments.sheet is not None and arguments.sheet.suffix.lower() != ".png":
        wrong.append(f"--sheet is {arguments.sheet}; its name must end in .png")
    if wrong:
        print("\n".join(f"error: {each}" for each in wrong), file=sys.stderr)
        return 2
    values = {"true": True, "false": False}
    options = {
        name: values.get(text, int(text) if re.fullmatch(r"-?\d{1,18}", text) else text) for name, _, text in pairs
    }
    library = Library(arguments.root)
    path = Path(arguments.target)
    if "/" not in arguments.target and not path.exists():  # the name of a spec
        path = arguments.root / "specs/sources" / f"{arguments.target.removesuffix('.yaml')}.yaml"
    is_spec = path.suffix in (".yaml", ".yml")
    spec = single(arguments.root, path, "sources") if is_spec else None
    experiment = compose_params(library).experiment
    cache = experiment.hardware.cache if experiment else str(HardwareSpec.model_fields["cache"].default)
    target = path.stem if is_spec else arguments.target
    request = Request(target, arguments.episodes, arguments.json, arguments.sheet, options, arguments.root / cache)
    return inspected(request, spec)


def annotate(arguments: argparse.Namespace) -> int:
    """The human check."""
    from roboalign.annotate import command

    for name, low, high in (("clips", 1, 10_000), ("seed", 0, 2**31 - 1), ("port", 0, 65_535)):
        if not low <= getattr(arguments, name) <= high:
            print(f"error: --{name} is {getattr(arguments, name)}; give one of {low} to {high}", file=sys.stderr)
            return 2
    if arguments.agreement:
        return command.compare(arguments.root, arguments.agreement, arguments.json)
    which = arguments.split, arguments.clips, arguments.seed, arguments.rater
    if arguments.serve:
        return command.serve(arguments.root, arguments.port, arguments.answers, *which)
    return command.write(arguments.root, arguments.out, *which)


def score(arguments: argparse.Namespace) -> int:
    """Score a folder of videos."""
    if not 0 < arguments.level < 1:
        print(f"error: --level is {arguments.level:g}; give a share between 0 and 1", file=sys.stderr)
        return 2
    if arguments.stride < 1:
        print(f"error: --stride is {arguments.stride}; give 1 or more", file=sys.stderr)
        return 2
    if arguments.name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", arguments.name):
        print(f"error: --name is '{arguments.name}'; give lower-case letters, digits and underscores", file=sys.stderr)
        return 2
    from roboalign.scoring.command import model_name, run
    from roboalign.scoring.score import Options

    name = arguments.name or model_name(arguments.videos)
    options = Options(name, arguments.fit, arguments.stride, arguments.level, arguments.like, arguments.first_frames)
    return run(arguments.root, arguments.videos, arguments.instructions, arguments.judge, options, arguments.json,
               arguments.device)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
