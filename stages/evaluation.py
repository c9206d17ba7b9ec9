"""Score every clip set by every scorer, compare them, judge the gates: `python -m stages.evaluation`."""

from roboalign.evaluation.benchmarks import benchmark_results
from roboalign.evaluation.external import scored_sets
from roboalign.evaluation.gates import gates
from roboalign.evaluation.outcomes import outcome_rows
from roboalign.evaluation.scoring import evaluate, rows
from roboalign.evaluation.spec import EvaluationSpec, ScorerName
from roboalign.io import digest, read_json, write_json, write_tsv
from roboalign.pipeline.evaluation import ScoringInputs, best_of_comparisons, score_clip_sets
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute

MEASURED = ("tokenizer", "world_model", "student", "rl", "rollout")
"""The metrics files whose figures the gates read."""


def main(run: Run) -> None:
    """Write metrics/evaluation.json, and the scores and outcomes of every clip."""
    spec: EvaluationSpec = run.section("evaluation", EvaluationSpec)
    reward: RewardSpec = run.section("rubric", RewardSpec)
    inputs = ScoringInputs.of(run, spec, reward)
    digests: dict[ScorerName, str] = {name: digest([path]) for name, path in inputs.scorers}
    folder = run.input("external")
    files = [(entry, folder.parent / entry.scores) for entry in spec.external]
    external, benchmarks = scored_sets(files, reward.names, digests), benchmark_results(files, spec)
    with ModelExecutor.of(run) as executor:
        scored = score_clip_sets(inputs, executor, run.log) | external
    result = evaluate(scored, reward.names, spec, best_of_comparisons(inputs))
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
