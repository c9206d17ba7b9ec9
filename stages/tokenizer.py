"""Train the dual-branch tokenizer on all sources and measure what it keeps: `python -m stages.tokenizer`."""

import time

import torch

from roboalign.checkpoint import save_model
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.metrics.perceptual import build_perceptual
from roboalign.metrics.perceptual_spec import PerceptualSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.tokenizer.data import TokenizerClips
from roboalign.tokenizer.init import initialize_tokenizer
from roboalign.tokenizer.lit import TokenizerModule
from roboalign.tokenizer.measure import measure
from roboalign.tokenizer.model import build_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.training import fit, fold_in


def main(run: Run) -> None:
    """Run the stage."""
    spec: TokenizerSpec = run.section("tokenizer", TokenizerSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    train, test = corpus.filter(split="train"), corpus.filter(split="test")
    clips = TokenizerClips(train, spec.samples, (spec.height, spec.width), spec.training.seed)
    run.log(f"{spec.parameters:,} parameters; {len(train)} episodes to train on, {len(test)} to measure")
    distance = build_perceptual(run.section("evaluation.perceptual", PerceptualSpec))
    torch.manual_seed(fold_in(spec.training.seed, 0))
    model = build_tokenizer(spec)
    if spec.init is not None:
        run.log(initialize_tokenizer(model, spec.init, run.scratch))
    began = time.monotonic()
    module = TokenizerModule(model, spec, distance)
    fit(
        module, clips, spec.training, device, label=run.label, scratch=run.scratch,
        curves=run.output("plots/tokenizer.tsv"), micro_batches=run.micro_batches.tokenizer,
    )  # fmt: skip
    seconds = time.monotonic() - began
    save_model(run.output("artifacts/tokenizer/model.safetensors"), model, spec, run.provenance)
    accelerator = torch.device(device.accelerator)
    metrics = measure(model.to(accelerator).eval(), train, test, distance.to(accelerator), accelerator)
    write_json(run.output("metrics/tokenizer.json"), metrics)
    run.write_timings({"seconds": seconds, "steps": spec.training.steps})
    gain = metrics["gain_psnr"]
    run.log(f"PSNR {metrics['psnr']['mean']:.2f} dB, {gain['mean']:+.2f} [{gain['low']:.2f}, {gain['high']:.2f}] "
            "over copying the context")  # fmt: skip


if __name__ == "__main__":
    execute("tokenizer", main)
