"""Score every clip set by every scorer, compare them, judge the gates: `python -m stages.evaluation`."""

from functools import partial

import torch

from roboalign.evaluation.benchmarks import benchmark_results
from roboalign.evaluation.clips import read_clip_sets, true_clips
from roboalign.evaluation.external import scored_sets
from roboalign.evaluation.gates import gates
from roboalign.evaluation.outcomes import outcome_rows
from roboalign.evaluation.scoring import Scorer, best_of_n, evaluate, rows, score
from roboalign.evaluation.spec import EvaluationSpec, ScorerName
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import digest, read_json, write_json, write_tsv
from roboalign.pipeline.scorers import MODEL, load_gold, load_scorer, make_gold_scorer
from roboalign.reward.dimensions import mean_scores
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus

MEASURED = ("tokenizer", "world_model", "student", "rl", "rollout")
"""The metrics files whose figures the gates read."""


def main(run: Run) -> None:
    """Write metrics/evaluation.json, and the scores and outcomes of every clip."""
    spec: EvaluationSpec = run.section("evaluation", EvaluationSpec)
    reward: RewardSpec = run.section("rubric", RewardSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    device = torch.device(device_spec.accelerator)
    scorers: dict[ScorerName, Scorer] = {
        name: partial(mean_scores, load_scorer(run, name, device)) for name in spec.scorers
    }
    digests: dict[ScorerName, str] = {name: digest([run.input(f"artifacts/{name}/{MODEL}")]) for name in spec.scorers}
    folder = run.input("external")
    files = [(entry, folder.parent / entry.scores) for entry in spec.external]
    external, benchmarks = scored_sets(files, reward.names, digests), benchmark_results(files, spec)
    sets = {name: one for name, one in read_clip_sets(run.input("artifacts/rollout")).items() if one.is_scorable}
    corpus = Corpus.open(run.input("artifacts/sources/index.json")).filter(split="test")
    gold = make_gold_scorer(load_gold(run, reward, device), corpus) if spec.gold else None
    widest = max(sets.values(), key=lambda one: len(set(one.episodes)))
    scored = {
        "ground_truth": score("ground_truth", true_clips(corpus, widest), scorers, spec.batch_size, str(device), gold)
    }
    for number, (name, one) in enumerate(sets.items(), 1):
        scored[name] = score(name, one.clips(), scorers, spec.batch_size, str(device), gold)
        if one.best_of_n:
            scored[name] = best_of_n(scored[name], "student_faithful")
        run.log(f"scored {name}, {number} of {len(sets)} clip sets")
    scored |= external
    result = evaluate(scored, reward.names, spec)
    metrics = {name: read_json(run.input(f"metrics/{name}.json")) for name in MEASURED}
    metrics["evaluation"] = result
    result |= {"benchmarks": benchmarks} if benchmarks else {}
    result["gates"], result["gates_not_measured"] = gates(metrics, result["differences"], spec)
    write_json(run.output("metrics/evaluation.json"), result)
    write_tsv(run.output("artifacts/evaluation/scores.tsv"), rows(scored.values(), reward.names))
    outcomes = {name: one.outcomes for name, one in scored.items() if one.outcomes is not None}
    write_tsv(run.output("artifacts/evaluation/outcomes.tsv"), outcome_rows(outcomes))
    passed = sum(gate["passed"] for gate in result["gates"].values())
    run.log(f"{passed} of {len(result['gates'])} measured gates passed")


if __name__ == "__main__":
    execute("evaluation", main)
