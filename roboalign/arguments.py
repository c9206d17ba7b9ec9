"""The arguments of the command line: one function a command, and nothing that takes long to import."""

import argparse
from pathlib import Path

COMMANDS = {
    "check": "validate params.yaml and everything under specs/",
    "show": "print the resolved experiment, or one part of it",
    "plan": "say what `dvc repro` would re-run and why, with sizes and estimates",
    "inspect": "look at a source: what it holds, what its spec makes of it; or propose a spec for any data set",
    "convert": "write any data set that can be read as a LeRobotDataset 3",
    "schema": "write or check the JSON Schemas that editors use",
    "verify": "re-hash what the stages produced and name damaged files",
    "use": "switch params.yaml to another experiment",
    "study": "queue the experiments of a study under specs/studies/, and write their table",
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
    add["show"].add_argument("part", nargs="?", help="a section, or a field such as rollout.decodings.swr.window")
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
    add["verify"].add_argument("--remote", metavar="NAME", help="download and re-hash what this DVC remote holds too")
    add["verify"].add_argument("--run-cache", action="store_true", help="re-hash DVC's recorded runs too")
    add["use"].epilog = (
        "The variants and values that params.yaml sets besides are reset, and named. Without editing the file: "
        "dvc exp run -S use.experiment=NAME -S 'sources=[a,b]', with the experiment's own sources."
    )
    add["use"].add_argument("experiment", help="one of specs/experiments/")
    add["use"].add_argument("--keep", action="store_true", help="keep the variants and values that params.yaml sets")
    add["study"].epilog = (
        "The runs are DVC experiments of the last commit, one after another; run again after an interruption, it goes "
        "on with what is missing. It writes NAME.md, NAME.json and NAME.svg."
    )
    add["study"].add_argument("name", help="one of specs/studies/")
    add["study"].add_argument("--out", type=Path, default=Path("docs/results"), metavar="FOLDER",
                              help="where to write (docs/results)")  # fmt: skip
    add["study"].add_argument("--collect", action="store_true", help="run nothing; write the table of finished runs")
    inspect_arguments(add["inspect"])
    convert_arguments(add["convert"])
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
        "3, CALVIN, LIBERO and robomimic, ALOHA, Ctrl-World, .npz episodes, videos with JSON Lines. A NAME is shown as "
        "the experiment of params.yaml has it, the path of its file by itself. Exit codes: 0 usable, 1 not (or not "
        "reached), 2 errors in the spec or the arguments."
    )
    command.add_argument("target", metavar="SPEC|URI", help="a source's spec or its name; a data set, or a store")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--episodes", type=int, metavar="N", help="how many to look at (20; simulated ones 4); 0 all")
    command.add_argument("--sheet", type=Path, metavar="OUT.png", help="draw a contact sheet: episodes over time")
    command.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                         help="fsspec's option for the place, such as anon=true; may be repeated")  # fmt: skip


def convert_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `convert`."""
    command.epilog = (
        "The same as the stage `episodes`, without an experiment: a spec's crop, size, stride, filter and splits hold, "
        "damaged episodes are left out and named. For a data set without a spec, the one that `inspect` proposes is "
        "taken. Interrupted, it goes on where it was. Exit codes: 0 written, 1 not, 2 errors in the spec or the "
        "arguments."
    )
    command.add_argument("source", metavar="SPEC|URI", help="a source's spec or its name, or a data set")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; must not be there yet")
    command.add_argument("--workers", type=int, default=0, metavar="N", help="processes (0: one a core)")
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
    command.add_argument("--judge", default="judge", metavar="judge|student|PATH", help="who scores (judge)")
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
    command.add_argument("--decoding", metavar="NAME",
                         help="one of the experiment's rollout.decodings (its rollout.scored_decoding)")  # fmt: skip
    command.add_argument("--start", type=int, default=0, metavar="N", help="the episode's frame to begin with (0)")
    command.add_argument("--frames", type=int, default=0, metavar="N", help="how many to predict (one an action)")
    command.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest tokens (0)")
    command.add_argument("--seed", type=int, default=0, help="of the random draws (0)")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")
