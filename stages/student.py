"""Distil the judge into the student reward and measure it: `python -m stages.student`."""

import time
from itertools import pairwise

import torch

from roboalign.bench.agreement import score_all
from roboalign.bench.calibration import calibrate, interval_metrics
from roboalign.bench.dataset import PairDataset
from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.judge.model import load_judge
from roboalign.reward.dimensions import normalise
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.student.lit import StudentModule
from roboalign.student.measure import measure
from roboalign.student.model import Student, save_student
from roboalign.student.spec import StudentSpec
from roboalign.training import fit, fold


def main(run: Run) -> None:
    """Run the stage."""
    spec: StudentSpec = run.section("student", StudentSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    bench = Bench.open(run.input("artifacts/bench"), corpus, reward.names)
    judge = load_judge(run.input("artifacts/judge/model.safetensors")).to(device.accelerator)
    train, test = bench.where(split="train"), bench.where(split="test")
    torch.manual_seed(fold(spec.training.seed, 0))
    student = Student(spec, reward, Vocabulary(judge.vocabulary.known, spec.encoder.text.words))
    clips = PairDataset(bench, train, bench.scores[train], student.vocabulary)
    taught = score_all(lambda v, t: judge.sample(v, t, spec.teacher_samples), clips, judge.spec.batch).mean(0)
    clips.targets = torch.from_numpy(normalise(taught, reward)).float()
    run.say(f"{sum(p.numel() for p in student.parameters()):,} parameters; {len(train)} clips scored by the judge")
    fit(
        StudentModule(student), clips, spec.training, device, label=run.label, scratch=run.scratch,
        curves=run.output("plots/student.tsv"),
    )  # fmt: skip
    student.to(device.accelerator).eval()
    save_student(run.output("artifacts/student/model.safetensors"), student, run.provenance)
    pairs = PairDataset(bench, test, normalise(bench.scores[test], reward), student.vocabulary)
    times = [time.monotonic()]
    teacher = score_all(lambda v, t: judge(v, t).unsqueeze(0), pairs, judge.spec.batch)[0]
    times.append(time.monotonic())
    scores = score_all(lambda v, t: student(v, t).unsqueeze(0), pairs, spec.batch)[0]
    times.append(time.monotonic())
    metrics = measure(scores, teacher, taught.mean(0), bench, test, reward)
    validation = bench.where(split="validation")
    unseen = PairDataset(bench, validation, bench.scores[validation], student.vocabulary)
    guessed = score_all(lambda v, t: student(v, t).unsqueeze(0), unseen, spec.batch)[0] if validation else None
    calibration = calibrate(bench, corpus, reward, train, validation, guessed)
    write_json(run.output("artifacts/student/calibration.json"), calibration.model_dump(mode="json"))
    metrics["interval"] = interval_metrics(calibration, scores, bench, test, train, reward)
    parameters = {f"{name}parameters": sum(p.numel() for p in model.parameters())
                  for name, model in (("", student), ("teacher_", judge))}  # fmt: skip
    write_json(run.output("metrics/student.json"), metrics | parameters)
    slow, fast = (len(test) / (after - before) for before, after in pairwise(times))
    write_json(run.root / "timings/student.json",
               {"videos_per_second": fast, "teacher_videos_per_second": slow, "speedup": fast / slow})  # fmt: skip
    run.say(f"total MAE {metrics['total']['mae']:.2f} against the teacher; {fast:.0f} videos/s, judge {slow:.0f}")


if __name__ == "__main__":
    execute("student", main)
