"""Distil the judge into the student reward and measure it: `python -m stages.student`."""

import torch

from roboalign.bench.calibration import calibrate, interval_metrics
from roboalign.bench.dataset import score_pairs
from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.judge.measure import copy_context_attack, measure_groups
from roboalign.pipeline.judges import fit_reward_model, load_judge, load_scores
from roboalign.probe.model import load_probe
from roboalign.probe.outcome import load_outcome_model
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.student.measure import measure, videos_per_second
from roboalign.student.model import Student, save_student
from roboalign.student.spec import StudentSpec
from roboalign.training import fold_in


def main(run: Run) -> None:
    """Run the stage."""
    spec: StudentSpec = run.section("student", StudentSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    bench = Bench.open(run.input("artifacts/bench"), corpus, reward.names)
    judge = load_judge(run.input("artifacts/judge/model.safetensors"), device.accelerator, run.root)
    taught = load_scores(run.input("artifacts/judge/scores.safetensors"), bench)
    eyes = load_probe(run.input("artifacts/probe/judge/model.safetensors"))
    outcome = load_outcome_model(run.input("artifacts/probe/judge/outcome.safetensors"))
    train, validation, test = (bench.where(split=split) for split in ("train", "validation", "test"))
    torch.manual_seed(fold_in(spec.training.seed, 0))
    vocabulary = Vocabulary.of([bench.pairs[row].instruction for row in train], spec.encoder.text.words)
    student = Student(spec, reward, vocabulary, corpus.action_width, eyes, outcome)
    run.say(f"{sum(p.numel() for p in student.parameters()):,} parameters")
    curves = run.output("plots/student.tsv")
    known = fit_reward_model(run, student, spec, bench, train, taught[train], device, curves)
    save_student(run.output("artifacts/student/model.safetensors"), student, run.provenance)
    teacher, scores = taught[test], score_pairs(student.sample, bench, test)[0]
    # Every eighth test clip: real rollouts and recordings, of all lengths.
    fast, slow = (videos_per_second(scorer.sample, bench, test[::8]) for scorer in (student, judge))
    metrics = measure(scores, teacher, taught[train].mean(0), bench, test, reward)
    gold = Bench.open(run.input("artifacts/bench"), corpus, reward.names, "gold").labels[test]
    metrics["within_groups"] = {
        "judge": measure_groups(scores, bench, test, teacher, reward),
        "gold": measure_groups(scores, bench, test, gold, reward),
    }
    metrics["copy_context"] = copy_context_attack(student.sample, bench, test, scores)
    guessed = score_pairs(student.sample, bench, validation)[0, :, 0] if validation else None
    calibration = calibrate(bench, corpus, reward, train, validation, guessed)
    write_json(run.output("artifacts/student/calibration.json"), calibration.model_dump(mode="json"))
    metrics["interval"] = interval_metrics(calibration, scores[:, 0], bench, test, train, reward)
    metrics["scenes_known"] = known
    metrics["parameters"] = sum(p.numel() for p in student.parameters())
    write_json(run.output("metrics/student.json"), metrics)
    write_json(run.root / "timings/student.json",
               {"videos_per_second": fast, "teacher_videos_per_second": slow, "speedup": fast / slow})  # fmt: skip
    run.say(f"total MAE {metrics['total']['mae']:.2f} against the teacher; {fast:.0f} videos/s, judge {slow:.0f}")


if __name__ == "__main__":
    execute("student", main)
