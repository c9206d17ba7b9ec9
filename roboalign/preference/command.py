"""`python -m roboalign pairs build` and `pairs read`: writes the page of a study of pairs, and reads its answers."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roboalign.errors import StageError
from roboalign.evaluation.clips import read_clip_sets, true_clips
from roboalign.io import find_output, round_floats, write_text
from roboalign.preference.answers import read_answers
from roboalign.preference.page import page_content, render
from roboalign.preference.results import results, table
from roboalign.preference.sample import SHUFFLED, TRUTH, PairsError, choose_pairs, read_key
from roboalign.store import Corpus, EpisodeStore
from roboalign.types import UInt8

DEFAULT_MODELS = ("supervised.ar.greedy", "supervised.swr.greedy", "aligned.swr.greedy")
"""The models of a study that names none, as far as the experiment has them."""


def build(root: Path, out: Path, models: Sequence[str], pairs: int, checks: int, seed: int) -> int:
    """Write the page to `out` and its key beside it; other arguments as in `choose_pairs`. Returns the exit code."""
    try:
        sets = read_clip_sets(find_output(root, "artifacts/rollout"))
        corpus = Corpus.open(find_output(root, "artifacts/sources/index.json")).filter(split="test")
        chosen = models or [name for name in DEFAULT_MODELS if name in sets]
        infos = {info.id: info for info in corpus.infos}
        key = choose_pairs(sets, {name: info.source for name, info in infos.items()}, chosen, pairs, checks, seed)
        wanted = {pair.episode for pair in key.pairs}
        truths = {clip.episode: clip.frames for clip in true_clips(corpus, sets[chosen[0]]) if clip.episode in wanted}
        generator = np.random.default_rng(seed)

        def frames(episode: str, name: str) -> UInt8:
            if name == TRUTH:
                return truths[episode]
            if name == SHUFFLED:
                return truths[episode][generator.permutation(len(truths[episode]))]
            return sets[name].frames(episode, 0)

        fps = EpisodeStore(sets[chosen[0]].folder).fps
        content = page_content(key, frames, {name: infos[name].instruction for name in wanted}, fps)
        key_file = out.with_suffix(".key.json")
        write_text(out, render(content))
        write_text(key_file, key.model_dump_json(indent=1) + "\n")
    except (StageError, ValueError, OSError) as error:
        return fail(error)
    size = out.stat().st_size / 2**20
    compared = sum(not pair.is_check for pair in key.pairs)
    print(
        f"{out}: {compared} pairs of {', '.join(chosen)}, {len(key.pairs) - compared} attention checks, {size:.1f} MiB"
    )
    print(f"{key_file}: which model made which clip; do not give it to raters")
    print(
        f"Each rater opens the page and downloads the answers; then run `pairs read ANSWERS.jsonl ... --key {key_file}`"
    )
    return 0


def read(files: Sequence[Path], key_file: Path, as_json: bool) -> int:
    """Print the results of answers, and return the exit code."""
    try:
        key = read_key(key_file.read_text(encoding="utf-8"), str(key_file))
        found = results(read_answers(files, key), key)
    except (ValueError, OSError) as error:
        return fail(error)
    print(json.dumps(round_floats(found), indent=2, sort_keys=True) if as_json else table(found))
    return 0


def fail(error: Exception) -> int:
    """Print an error on stderr and return the exit code: 2 for what the user named, 1 for the experiment."""
    print(f"error: {error}", file=sys.stderr)
    return 2 if isinstance(error, PairsError | FileNotFoundError) else 1
