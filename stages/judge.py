"""Train a judge on the bench and measure it: `python -m stages.judge NAME`, NAME being judge or held_out."""

from typing import cast

from roboalign.bench.calibration import calibrate, interval_metrics
from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.judge.measure import copy_context_attack, measure, measure_groups
from roboalign.judge.spec import JudgeName, JudgeSpec
from roboalign.pipeline.bench_scores import BenchScorer
from roboalign.pipeline.judges import load_judge, load_perception, save_scores, train_judge
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.reward.dimensions import ABSOLUTE
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus


def main(run: Run) -> None:
    """Run the stage."""
    name = cast(JudgeName, run.item)
    spec = run.section(name, JudgeSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    bench = Bench.open(run.input("artifacts/bench"), corpus, reward.names, name)
    train, validation, test = (bench.filter(split=split) for split in ("train", "validation", "test"))
    judge = train_judge(run, name, spec, reward, bench, *load_perception(run, name), corpus.action_width, device_spec)
    judge.save(path := run.output(f"artifacts/{name}/model.safetensors"), run.provenance)
    # The student learns from the judge's scores of all pairs; no student is distilled from the held-out judge.
    asked = list(range(len(bench.pairs))) if name == "judge" else [*validation, *test]
    with ModelExecutor.of(run) as executor:
        sampled = BenchScorer.of(run, reward, path, load_judge).score(asked, executor)
    places = {row: place for place, row in enumerate(asked)}
    if name == "judge":
        save_scores(run.output("artifacts/judge/scores.safetensors"), sampled.mean(0), run.provenance)
    samples = sampled[:, [places[row] for row in test]]
    scores = samples.mean(0)
    guessed = sampled[:, [places[row] for row in validation], ABSOLUTE].mean(0) if validation else None
    calibration = calibrate(bench, corpus, reward, train, validation, guessed)
    write_json(run.output(f"artifacts/{name}/calibration.json"), calibration.model_dump(mode="json"))
    taught = {bench.pairs[row].degradation for row in train}
    held_out = sorted({bench.pairs[row].degradation for row in test} - taught)
    metrics = measure(samples, bench, test, bench.labels[train].mean(0), held_out, reward)
    gold = Bench.open(run.input("artifacts/bench"), corpus, reward.names, "gold").labels[test]
    metrics["within_groups"] = {
        "gold": measure_groups(scores, bench, test, gold, reward),
        "own_labels": measure_groups(scores, bench, test, bench.labels[test], reward),
        "ceiling": measure_groups(bench.labels[test], bench, test, gold, reward),
    }
    metrics["copy_context"] = copy_context_attack(judge.sample, bench, test, scores)
    metrics["interval"] = interval_metrics(calibration, scores[:, 0], bench, test, train, reward)
    write_json(run.output(f"metrics/{name}.json"), metrics)
    run.log(f"total MAE {metrics['total']['mae']:.2f} (constant {metrics['total']['constant_mae']:.2f})")


if __name__ == "__main__":
    execute("judge", main)
