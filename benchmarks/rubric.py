"""Can the labels be trusted? The rubric on fresh episodes of every simulated source: `python -m benchmarks.rubric`.

Records episodes that no stage has seen (another seed; experts, and policies that fail), scores them by the rubric with
the limits of the experiment's own training episodes, and spoils each of them by each degradation:

- the mean total of experts' episodes is to be at least 9.5;
- manipulation success is to tell the simulator's successes from its failures, AUC at least 0.99; the rubric reads the
  simulator's verdict, so it is measured without the verdict too;
- each degradation is to lower what its spec says, the whole 95 % interval below 0, and nothing else beyond its
  tolerance.

`--sources NAME…` records and measures these alone; what is recorded in `--folder` is kept, so that sources can be taken
one after the other. `--write` puts the tables into benchmarks/RESULTS.md. Exit code 1 where a target is missed.
"""

import argparse
import sys
import time
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from benchmarks.results import machine, record
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.labels import RecordedStates
from roboalign.bench.measure import (
    DegradationEffect,
    DegradationExample,
    effects_table,
    measure_effects,
    rubric_metrics,
)
from roboalign.bench.spec import BenchSpec
from roboalign.hardware.spec import ProcessesSpec
from roboalign.reward.spec import RewardSpec
from roboalign.sources.shards import materialise
from roboalign.sources.spec import SimulatedRobotSpec
from roboalign.store import Corpus, EpisodeStore
from roboalign.types import Json

SOURCES = ("metaworld", "fetch", "panda", "jaco")
WANTED = 200
"""Expert and failing episodes a source."""
EXPERT_TOTAL, AUC = 9.5, 0.99
"""The targets."""


def spec_of(source: str, episodes: int, seed: int) -> SimulatedRobotSpec:
    """The shipped source with small images (the rubric reads states) and enough experts and failures."""
    raw = yaml.safe_load(Path(f"specs/sources/{source}.yaml").read_text(encoding="utf-8"))
    raw |= {
        "episodes": episodes,
        "seed": seed,
        "image": {"height": 16, "width": 16, "supersample": 1},
        "policies": {"expert": 0.42, "noisy_expert": 0.13, "wrong_goal": 0.2, "random": 0.25},
    }
    return TypeAdapter[SimulatedRobotSpec](SimulatedRobotSpec).validate_python(raw)


def recorded(source: str, episodes: int, seed: int, folder: Path, workers: int) -> EpisodeStore:
    """The store of fresh episodes, recorded unless it is there."""
    store = folder / f"{source}_{episodes}_{seed}"
    if not store.exists():
        executor = ProcessesSpec(kind="processes", workers=workers)
        began = time.monotonic()

        def say(done: int, total: int, _: str) -> None:
            left = (time.monotonic() - began) / done * (total - done)
            print(f"[{source}] {done} of {total} shards, about {left:.0f} s left", file=sys.stderr, flush=True)

        scratch = folder / f".{source}_{episodes}_{seed}"
        materialise(spec_of(source, episodes, seed), source, store, scratch, folder / ".cache", executor, say)
    return EpisodeStore(store)


def examined(
    source: str, store: EpisodeStore, labeller: PairLabeller
) -> tuple[dict[str, Json], list[DegradationEffect]]:
    """The rubric on the first experts and failures of a store, and the effects of the degradations on them."""
    experts = [n for n, info in enumerate(store.infos) if info.policy == "expert"][:WANTED]
    failures = [n for n, info in enumerate(store.infos) if info.policy != "expert" and not info.success][:WANTED]
    rows: list[tuple[Json, bool]] = []
    examples: list[DegradationExample] = []
    for number in sorted([*experts, *failures]):
        episode = store.read(number)
        rows.append((episode.state, episode.policy == "expert"))
        states = RecordedStates(episode.state, episode.keypoints, labeller.cameras[source, episode.task])
        examples.append(DegradationExample(source, episode.task, states))
    effects = measure_effects(labeller.spec, labeller.reward, examples, labeller.limits)
    return rubric_metrics(labeller.reward, rows, labeller.limits[source]), effects


def report(
    results: dict[str, tuple[dict[str, Json], list[DegradationEffect]]], dimensions: tuple[str, ...]
) -> tuple[str, bool]:
    """The tables as Markdown, and whether every target is met."""
    met = True
    lines = [
        f"{machine()} `python -m benchmarks.rubric --write`. Limits come from the experiment's training episodes, the "
        f"figures from fresh ones. AUC: manipulation success against the simulator's own success, over experts and "
        "failures; the rubric reads the simulator's verdict, hence the column without it.",
        "",
        f"| source | experts | total (target {EXPERT_TOTAL}) | successes | total | failures | total | "
        f"AUC (target {AUC}) | AUC without verdict | measured effects as declared |",
        "|" + " --- |" * 10,
    ]
    for source, (values, found) in results.items():
        # What is declared, not measured, holds by definition and does not count.
        known = [effect for effect in found if effect.measured]
        kept = sum(effect.holds for effect in known)
        met &= values["expert_total"] >= EXPERT_TOTAL and values["manipulation_auc"] >= AUC and kept == len(known)
        lines.append(
            f"| {source} | {values['experts']} | {values['expert_total']:.3f} | {values['expert_successes']} | "
            f"{values['expert_success_total']:.3f} | {values['failures']} | {values['failure_total']:.2f} | "
            f"{values['manipulation_auc']:.4f} | {values['manipulation_auc_without_verdict']:.4f} | "
            f"{kept} of {len(known)} |"
        )
    lines += [
        "",
        "Mean change by degradation, in per cent of full marks, with 95 % intervals over episodes. In bold what the "
        "degradation should lower (✓: the whole interval is below 0), elsewhere the least that its spec tolerates.",
    ]
    for source, (_, found) in results.items():
        head, rows = effects_table(found, dimensions)
        lines += ["", f"**{source}**", "", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines), met


def main() -> int:
    """Record, measure, print; the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    arguments.add_argument("--episodes", type=int, default=500, help="to record of each source (500)")
    arguments.add_argument("--seed", type=int, default=2026, help="of the recordings; not the experiment's (2026)")
    arguments.add_argument("--folder", type=Path, default=Path(".scratch/rubric"), help="where recordings are kept")
    arguments.add_argument("--index", type=Path, default=Path("artifacts/sources/index.json"))
    arguments.add_argument("--reward", type=Path, default=Path("specs/reward/six.yaml"))
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    reward = RewardSpec.model_validate(yaml.safe_load(given.reward.read_text(encoding="utf-8")))
    corpus = Corpus.open(given.index)
    labeller = PairLabeller.of(corpus, BenchSpec(), reward)
    results = {}
    for source in given.sources:
        store = recorded(source, given.episodes, given.seed, given.folder, given.workers)
        results[source] = examined(source, store, labeller)
    text, met = report(results, reward.names)
    print(text)
    if given.write:
        record("Rubric", text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
