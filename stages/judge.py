"""Train the judge, the teacher, on the bench's labels and measure it: `python -m stages.judge`."""

import time

import torch

from roboalign.bench.agreement import Scores, score_all
from roboalign.bench.calibration import calibrate, interval_metrics
from roboalign.bench.dataset import PairDataset
from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.judge.build import build_judge
from roboalign.judge.lit import JudgeModule
from roboalign.judge.measure import measure
from roboalign.judge.model import save_judge
from roboalign.judge.spec import JudgeSpec
from roboalign.reward.dimensions import normalise
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.training import fit, fold


def main(run: Run) -> None:
    """Run the stage."""
    spec = run.section("judge", JudgeSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    bench = Bench.open(run.input("artifacts/bench"), corpus, reward.names)
    train, test = bench.where(split="train"), bench.where(split="test")
    torch.manual_seed(fold(spec.training.seed, 0))
    judge = build_judge(spec, reward, [bench.pairs[row].instruction for row in train])
    clips = PairDataset(bench, train, normalise(bench.scores[train], reward), judge.vocabulary)
    run.say(f"{sum(p.numel() for p in judge.parameters()):,} parameters; {len(train)} pairs to train on, {len(test)} to"
            f" measure; {len(judge.vocabulary.known)} words")  # fmt: skip
    fit(
        JudgeModule(judge), clips, judge.spec.training, device, label=run.label, scratch=run.scratch,
        curves=run.output("plots/judge.tsv"),
    )  # fmt: skip
    judge.to(device.accelerator).eval()
    save_judge(run.output("artifacts/judge/model.safetensors"), judge, run.provenance)

    def scored(rows: list[int]) -> Scores:
        pairs = PairDataset(bench, rows, normalise(bench.scores[rows], reward), judge.vocabulary)
        return score_all(lambda v, t: judge.sample(v, t, judge.spec.samples), pairs, judge.spec.batch)

    began = time.monotonic()
    scores = scored(test)
    seconds = time.monotonic() - began
    validation = bench.where(split="validation")
    calibration = calibrate(
        bench, corpus, reward, train, validation, scored(validation).mean(0) if validation else None
    )
    write_json(run.output("artifacts/judge/calibration.json"), calibration.model_dump(mode="json"))
    taught = {pair.degradation for pair in (bench.pairs[row] for row in train)}
    held_out = sorted({bench.pairs[row].degradation for row in test} - taught)
    metrics = measure(judge, bench, test, scores, bench.scores[train].mean(0), held_out)
    metrics["interval"] = interval_metrics(calibration, scores.mean(0), bench, test, train, reward)
    write_json(run.output("metrics/judge.json"), metrics)
    write_json(run.root / "timings/judge.json", {"videos_per_second": len(test) / seconds})
    run.say(f"total MAE {metrics['total']['mae']:.2f} (constant {metrics['total']['constant_mae']:.2f})")


if __name__ == "__main__":
    execute("judge", main)
