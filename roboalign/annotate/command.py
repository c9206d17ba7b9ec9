"""`python -m roboalign annotate`: the human check, from the bench to a page, and from the scores to agreement."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from roboalign.annotate.agreement import agreement, table
from roboalign.annotate.answers import Answers
from roboalign.annotate.page import render, study
from roboalign.annotate.sample import Showing, choose_clips, order_for_rater
from roboalign.annotate.serve import Server
from roboalign.bench.annotations import AnnotationError, read_annotations
from roboalign.bench.pairs import Bench, read_pairs
from roboalign.errors import StageError
from roboalign.io import find_output, round_floats, write_text
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus
from roboalign.types import Json, Split

SECTION = Path("build/spec/reward.yaml")
BENCH = Path("artifacts/bench")
SOURCES = Path("artifacts/sources/index.json")


@dataclass(frozen=True)
class Study:
    """The bench of the experiment at `root`, and which of its clips are shown."""

    reward: RewardSpec
    bench: Bench
    showings: list[Showing]

    def content(self, rater: str, answers: Answers | None = None) -> dict[str, Json]:
        """What the page knows."""
        pairs = self.bench.pairs
        places = {(pairs[one.row].id, one.showing): place for place, one in enumerate(self.showings)}
        saved = None if answers is None else answers.by_place(places)
        return study(pairs, self.bench.frames, self.showings, self.reward, rater, saved)


def open_study(root: Path, split: Split, clips: int, seed: int, rater: str) -> Study:
    """The study of an experiment's bench. Raises StageError or ValueError where there is none."""
    reward = reward_of(root)
    bench = Bench.open(find_output(root, BENCH), Corpus.open(find_output(root, SOURCES)), reward.names)
    return Study(reward, bench, order_for_rater(choose_clips(bench.pairs, split, clips, seed), rater, seed))


def reward_of(root: Path) -> RewardSpec:
    """The reward's dimensions, as composed."""
    return RewardSpec.model_validate(yaml.safe_load(find_output(root, SECTION).read_text(encoding="utf-8"))["reward"])


def write(root: Path, out: Path, split: Split, clips: int, seed: int, rater: str) -> int:
    """Write the page."""
    try:
        made = open_study(root, split, clips, seed, rater)
        write_text(out, render(made.content(rater)))
    except (StageError, ValueError, OSError) as error:
        return fail(error)
    size = out.stat().st_size / 2**20
    print(f"{out}: {len(made.showings)} showings of {len({one.row for one in made.showings})} clips, {size:.1f} MiB")
    print("Open it in a browser, score, download the scores; then: python -m roboalign annotate --agreement FILE.jsonl")
    return 0


def serve(root: Path, port: int, file: Path, split: Split, clips: int, seed: int, rater: str) -> int:
    """Serve the page until Ctrl-C."""
    with ExitStack() as stack:
        try:
            made = open_study(root, split, clips, seed, rater)
            answers = stack.enter_context(Answers(file, made.reward, {pair.id for pair in made.bench.pairs}))
            server = stack.enter_context(Server(port, lambda: render(made.content(rater, answers)), answers))
        except (StageError, ValueError, OSError) as error:
            return fail(error)
        if answers.dropped:
            print(f"{file}: half a last line was dropped; its clip will be asked for again", file=sys.stderr)
        print(f"{len(made.showings)} clips at {server.url}; scores go to {file}, which holds {len(answers)}. "
              "Ctrl-C ends this.", flush=True)  # fmt: skip
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"\n{file} holds {len(answers)} scored clips")
    return 0


def compare(root: Path, files: Sequence[str], as_json: bool) -> int:
    """Print the agreement of annotation files with the labels."""
    try:
        reward = reward_of(root)
        pairs = read_pairs(find_output(root, BENCH / "pairs.parquet"), reward.names)
        rows = read_annotations(files, reward, {pair.id for pair in pairs})
        if not rows:
            raise StageError(f"{', '.join(files)}: no annotations; score at least one clip")
        result = agreement(rows, pairs, reward)
    except (StageError, ValueError, OSError) as error:
        return fail(error)
    print(json.dumps(round_floats(result), indent=2, sort_keys=True) if as_json else table(result, reward.names))
    return 0


def fail(error: Exception) -> int:
    """One line on stderr; 2 for a file that the user gave, 1 for the experiment's own."""
    print(f"error: {error}", file=sys.stderr)
    return 2 if isinstance(error, AnnotationError) else 1
