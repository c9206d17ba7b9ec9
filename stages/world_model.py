"""Train the world model on the tokens of the training episodes and roll out the test episodes.

python -m stages.world_model
"""

import shutil
import time

from torch import Tensor

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import replacing, write_json
from roboalign.metrics.perceptual_spec import PerceptualSpec
from roboalign.metrics.video import build_perceptual
from roboalign.rollout.ar import ArDecoder
from roboalign.rollout.prompt import Start
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.tokenizer.model import load_tokenizer
from roboalign.training import fit, fold_in
from roboalign.world_model.init import initialize_world_model
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.lit import Snapshot, WorldModelTraining, early_step
from roboalign.world_model.measure import measure
from roboalign.world_model.model import save_world_model, seeded_world_model
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.segments import encode_segments
from roboalign.world_model.spec import WorldModelSpec


def main(run: Run) -> None:
    """Run the stage."""
    spec: WorldModelSpec = run.section("world_model", WorldModelSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    where, seed = device.accelerator, spec.training.seed
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    train, test = corpus.where(split="train"), corpus.where(split="test")
    tokenizer = load_tokenizer(run.input("artifacts/tokenizer/model.safetensors")).to(where)
    distance = build_perceptual(run.section("evaluation.perceptual", PerceptualSpec)).to(where)
    scratch, provenance, times = run.scratch, run.provenance, [time.monotonic()]
    segments = encode_segments(
        tokenizer, train, spec.segment, scratch / "segments", contexts=spec.contexts, device=where, log=run.say
    )  # fmt: skip
    times.append(time.monotonic())
    model = seeded_world_model(spec, TokenShape.of(tokenizer.spec, corpus.action_width), fold_in(seed, 3))
    if spec.init is not None:
        run.say(initialize_world_model(model, spec.init, scratch))
    if device.compile:
        model.compile()
    early = scratch / "early.safetensors"
    if spec.training.steps == 0:  # nothing is trained: the early model is the imported one
        save_world_model(early, model, provenance)
    snapshot = Snapshot(model, early_step(spec.training.steps, spec.early_fraction), early, provenance)
    training = WorldModelTraining(model)
    fit(
        training, segments, spec.training, device, label=run.label, scratch=scratch,
        curves=run.output("plots/world_model.tsv"), callbacks=(snapshot,),
    )  # fmt: skip
    model = training.result
    times.append(time.monotonic())
    save_world_model(run.output("artifacts/world_model/model.safetensors"), model, provenance)
    with replacing(run.output("artifacts/world_model/early.safetensors")) as temporary:
        shutil.copyfile(early, temporary)
    model = model.to(where).eval()

    def roll_out(frames: Tensor, actions: Tensor, mask: Tensor, seeds: Tensor, temperature: float) -> Tensor:
        sampler = Sampler(model, temperature=temperature)
        decoder = ArDecoder(tokenizer, sampler, Start(frames, mask, seeds, actions.shape[1]))
        for action in actions.unbind(1):
            decoder.step(action)
        return decoder.take_frames()

    metrics = measure(
        roll_out, tokenizer, test, spec.measure, donors=corpus, seed=seed, distance=distance,
        device=where, log=run.say,
    )  # fmt: skip
    times.append(time.monotonic())
    write_json(run.output("metrics/world_model.json"), metrics | {"perceptual_name": distance.name})
    seconds = {name: b - a for name, a, b in zip(("encode", "train", "measure"), times, times[1:], strict=False)}
    write_json(run.root / "timings/world_model.json", {"seconds": seconds, "steps": spec.training.steps})
    gain = metrics["gain_over_copy_context_psnr"]
    run.say(f"PSNR {metrics['psnr']:.2f} dB, {gain['mean']:+.2f} [{gain['low']:.2f}, {gain['high']:.2f}] "
            "over copying the context")  # fmt: skip


if __name__ == "__main__":
    execute("world_model", main)
