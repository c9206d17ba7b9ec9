"""Distil the judge into the student reward and measure it: `python -m stages.student`."""

from roboalign.bench.calibration import calibrate, interval_metrics
from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.judge.measure import copy_context_attack, measure_groups
from roboalign.pipeline.bench_scores import BenchScorer
from roboalign.pipeline.judges import load_judge, load_scores
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.pipeline.students import load_student_to, train_student
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.student.measure import measure, videos_per_second
from roboalign.student.model import save_student
from roboalign.student.spec import StudentSpec


def main(run: Run) -> None:
    """Run the stage."""
    spec: StudentSpec = run.section("student", StudentSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    bench = Bench.open(run.input("artifacts/bench"), corpus, reward.names)
    judge = load_judge(run.input("artifacts/judge/model.safetensors"), device.accelerator, run.root)
    taught = load_scores(run.input("artifacts/judge/scores.safetensors"), bench)
    train, validation, test = (bench.filter(split=split) for split in ("train", "validation", "test"))
    student, known = train_student(run, spec, reward, bench, taught, corpus.action_width, device)
    model = run.output("artifacts/student/model.safetensors")
    save_student(model, student, run.provenance)
    scorer = BenchScorer.of(run, reward, model, load_student_to)
    with ModelExecutor.of(run) as executor:
        scores = scorer.score(test, executor)[0]
        guessed = scorer.score(validation, executor)[0, :, 0] if validation else None
    judge_scores = taught[test]
    # Every eighth test clip: real rollouts and recordings, of all lengths.
    fast, slow = (videos_per_second(scorer.sample, bench, test[::8]) for scorer in (student, judge))
    metrics = measure(scores, judge_scores, taught[train].mean(0), bench, test, reward)
    gold = Bench.open(run.input("artifacts/bench"), corpus, reward.names, "gold").labels[test]
    calibration = calibrate(bench, corpus, reward, train, validation, guessed)
    write_json(run.output("artifacts/student/calibration.json"), calibration.model_dump(mode="json"))
    metrics |= {
        "within_groups": {
            name: measure_groups(scores, bench, test, reference, reward)
            for name, reference in (("judge", judge_scores), ("gold", gold))
        },
        "copy_context": copy_context_attack(student.sample, bench, test, scores),
        "interval": interval_metrics(calibration, scores[:, 0], bench, test, train, reward),
        "scenes_known": known,
        "parameters": sum(p.numel() for p in student.parameters()),
    }
    write_json(run.output("metrics/student.json"), metrics)
    run.write_timings({"videos_per_second": fast, "judge_videos_per_second": slow, "speedup": fast / slow})
    run.log(f"total MAE {metrics['total']['mae']:.2f} against the judge; {fast:.0f} videos/s, judge {slow:.0f}")


if __name__ == "__main__":
    execute("student", main)
