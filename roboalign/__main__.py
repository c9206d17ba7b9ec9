"""The command line: `python -m roboalign COMMAND`; `--help` lists the commands.

Each imports what it needs when it runs: those that look at specs and data alone never load torch.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from roboalign.arguments import COMMANDS, parser
from roboalign.spec.diagnostics import SpecError, has_errors, nearest, render, summary, to_json
from roboalign.spec.document import COMMAND_LINE


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

            return verify(arguments.root, arguments.cache, arguments.remote, arguments.run_cache)
        case "inspect":
            return inspect(arguments)
        case "study":
            from roboalign.study.command import run as study

            return study(arguments.root, arguments.name, arguments.out, collect=arguments.collect)
        case "convert":
            return convert(arguments)
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
        start=arguments.start,
        frames=arguments.frames,
        temperature=arguments.temperature,
        seed=arguments.seed,
        device=arguments.device,
    )


def check(root: Path, experiment: str | None, as_json: bool) -> int:
    """Validate; all errors at once."""
    from roboalign.spec.check import check as checked
    from roboalign.spec.check import left_behind, overrides
    from roboalign.spec.library import EXPERIMENTS, FOLDERS, Library

    library = Library(root)
    found = checked(library, experiment)
    if as_json:
        print(to_json(found))
        return 2 if has_errors(found) else 0
    for item in found:
        print(render(item), file=sys.stderr)
    if has_errors(found):
        print(summary(found), file=sys.stderr)
        if experiment is None and (hint := left_behind(library)):
            print(hint, file=sys.stderr)
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
    from roboalign.spec.show import show_section

    library = Library(root)
    composition = compose_params(library) if experiment is None else compose(library, experiment, COMMAND_LINE)
    composition.require()
    print(show_section(composition, path, origins), end="")
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
    from roboalign.spec.use import save, switch_experiment

    text, reset = switch_experiment(Library(root), experiment, keep=keep)
    save(root, text)
    print(f"params.yaml uses the experiment '{experiment}'")
    for line in reset:
        print(f"  reset to its choice: {line}")
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """Look at a source."""
    from roboalign.sources.inspection.command import Request
    from roboalign.sources.inspection.command import run as inspected
    from roboalign.spec.single import single, source_at_hand

    options, wrong = options_of(arguments.option)
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
        spec, overrides = source_at_hand(arguments.root, path.stem)
    else:
        spec = single(arguments.root, path, "sources") if is_spec else None
    target = path.stem if is_spec else arguments.target
    request = Request(
        target, arguments.episodes, arguments.json, arguments.sheet, options, cache_of(arguments.root), tuple(overrides)
    )
    return inspected(request, spec)


def convert(arguments: argparse.Namespace) -> int:
    """Write a data set as a LeRobotDataset 3."""
    from roboalign.sources.conversion import run as converted
    from roboalign.spec.single import single

    options, wrong = options_of(arguments.option)
    if arguments.workers < 0:
        wrong.append(f"--workers is {arguments.workers}; give 0 or more")
    if arguments.folder.exists():
        wrong.append(f"{arguments.folder} is there already; remove it, or name another folder")
    if wrong:
        print("\n".join(f"error: {each}" for each in wrong), file=sys.stderr)
        return 2
    path = spec_path(arguments.root, arguments.source)
    spec = single(arguments.root, path, "sources") if path.suffix in (".yaml", ".yml") else None
    cache, workers = cache_of(arguments.root), arguments.workers
    return converted(arguments.source, spec, arguments.folder, options=options, workers=workers, cache=cache)


def options_of(texts: list[str]) -> tuple[dict[str, bool | int | str], list[str]]:
    """fsspec's options by name, and what is wrong with the arguments that give them."""
    pairs = [text.partition("=") for text in texts]
    wrong = [f"--option {name} has no value; write KEY=VALUE" for name, equals, _ in pairs if not (name and equals)]
    values = {"true": True, "false": False}
    options = {
        name: values.get(text, int(text) if re.fullmatch(r"-?\d{1,18}", text) else text) for name, _, text in pairs
    }
    return options, wrong


def spec_path(root: Path, target: str) -> Path:
    """The file of a source's spec that `target` names, or `target` itself."""
    path = Path(target)
    if "/" not in target and not path.exists():
        return root / "specs/sources" / f"{target.removesuffix('.yaml')}.yaml"
    return path


def cache_of(root: Path) -> Path:
    """Where blocks of remote files are kept, by the experiment at hand or by default."""
    from roboalign.hardware.spec import HardwareSpec
    from roboalign.spec.compose import compose_params
    from roboalign.spec.library import Library

    experiment = compose_params(Library(root)).experiment
    return root / (experiment.hardware.cache if experiment else str(HardwareSpec.model_fields["cache"].default))


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
