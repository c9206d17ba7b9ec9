"""`python -m roboalign annotate`: writes or serves the page of a human study, and compares its scores with labels."""

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
    """The bench of an experiment, and the clips of it that are shown."""

    reward: RewardSpec
    bench: Bench
    showings: list[Showing]

    def content(self, rater: str, answers: Answers | None = None) -> dict[str, Json]:
        """The content of the page for a rater; with `answers`, the page is a served one."""
        pairs = self.bench.pairs
        places = {(pairs[one.row].id, one.showing): place for place, one in enumerate(self.showings)}
        saved = None if answers is None else answers.by_place(places)
        return study(pairs, self.bench.frames, self.showings, self.reward, rater, saved)


def open_study(root: Path, split: Split, clips: int, seed: int, rater: str) -> Study:
    """Open a study of an experiment's bench.

    Args:
        root: The checkout.
        split: The split whose clips are shown.
        clips: Number of clips.
        seed: Seed of the choice.
        rater: Name of the rater, which determines the order.

    Raises:
        StageError: The bench is missing.
        ValueError: The bench is damaged or has no clips in the split.
    """
    reward = read_reward(root)
    bench = Bench.open(find_output(root, BENCH), Corpus.open(find_output(root, SOURCES)), reward.names)
    return Study(reward, bench, order_for_rater(choose_clips(bench.pairs, split, clips, seed), rater, seed))


def read_reward(root: Path) -> RewardSpec:
    """Read the resolved section `reward`. Raises StageError if it is missing."""
    return RewardSpec.model_validate(yaml.safe_load(find_output(root, SECTION).read_text(encoding="utf-8"))["reward"])


def write(root: Path, out: Path, split: Split, clips: int, seed: int, rater: str) -> int:
    """Write the page to `out`, and return the exit code; other arguments as in `open_study`."""
    try:
        opened = open_study(root, split, clips, seed, rater)
        write_text(out, render(opened.content(rater)))
    except (StageError, ValueError, OSError) as error:
        return fail(error)
    size = out.stat().st_size / 2**20
    count = len({showing.row for showing in opened.showings})
    print(f"{out}: {len(opened.showings)} showings of {count} clips, {size:.1f} MiB")
    print(
        "Open it in a browser, score the clips and download the scores; then run "
        "`python -m roboalign annotate --agreement FILE.jsonl`"
    )
    return 0


def serve(root: Path, port: int, file: Path, split: Split, clips: int, seed: int, rater: str) -> int:
    """Serve the page on `port` until Ctrl-C, saving scores to `file`; other arguments as in `open_study`. Returns the
    exit code."""
    with ExitStack() as stack:
        try:
            opened = open_study(root, split, clips, seed, rater)
            answers = stack.enter_context(Answers(file, opened.reward, {pair.id for pair in opened.bench.pairs}))
            server = stack.enter_context(Server(port, lambda: render(opened.content(rater, answers)), answers))
        except (StageError, ValueError, OSError) as error:
            return fail(error)
        if answers.dropped:
            print(f"{file}: an unfinished last line was removed; its clip will be shown again", file=sys.stderr)
        print(
            f"{len(opened.showings)} clips at {server.url}; scores are saved to {file}, which has {len(answers)}. "
            "Ctrl-C ends the server.",
            flush=True,
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"\n{file} has {len(answers)} scored clips")
    return 0


def compare(root: Path, files: Sequence[str], as_json: bool) -> int:
    """Print the agreement of annotation files with the labels, and return the exit code."""
    try:
        reward = read_reward(root)
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
    """Print an error on stderr and return the exit code: 2 for a file named by the user, 1 for one of the
    experiment."""
    print(f"error: {error}", file=sys.stderr)
    return 2 if isinstance(error, AnnotationError) else 1
