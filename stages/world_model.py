"""Train the world model on the tokens of the training episodes and measure it on the test episodes."""

import shutil
import time

from roboalign.evaluation.video import Perceptual
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import replacing, write_json
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.tokenizer.model import load_tokenizer
from roboalign.training import fit, fold
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.lit import Snapshot, WorldModelTraining, early_step
from roboalign.world_model.measure import measure
from roboalign.world_model.model import save_world_model, seeded_world_model
from roboalign.world_model.segments import encode_segments
from roboalign.world_model.spec import WorldModelSpec


def main(run: Run) -> None:
    """Encode, train, save, measure."""
    spec: WorldModelSpec = run.section("world_model", WorldModelSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    tokenizer = load_tokenizer(run.input("artifacts/tokenizer/model.safetensors")).to(device.accelerator)
    began, scratch, provenance = time.monotonic(), run.scratch, run.provenance
    segments = encode_segments(
        tokenizer,
        corpus.where(split="train"),
        spec.segment.frames,
        spec.segment.stride,
        scratch / "segments",
        device=device.accelerator,
        say=run.say,
    )
    encoded = time.monotonic()
    of = tokenizer.spec
    shape = TokenShape(
        of.context_tokens, of.dynamics_tokens, of.context_levels, of.dynamics_levels, corpus.action_width
    )
    model = seeded_world_model(spec, shape, fold(spec.training.seed, 3))
    early = scratch / "early.safetensors"
    snapshot = Snapshot(model, early_step(spec.training.steps, spec.early_fraction), early, provenance)
    fit(
        WorldModelTraining(model),
        segments,
        spec.training,
        device,
        label=run.label,
        scratch=scratch,
        curves=run.output("plots/world_model.tsv"),
        callbacks=(snapshot,),
    )
    trained = time.monotonic()
    save_world_model(run.output("artifacts/world_model/model.safetensors"), model, provenance)
    with replacing(run.output("artifacts/world_model/early.safetensors")) as temporary:
        shutil.copyfile(early, temporary)
    model.eval().to(device.accelerator)
    distance = Perceptual().to(device.accelerator)
    figures = measure(
        model,
        tokenizer,
        corpus.where(split="test"),
        spec.measure,
        seed=spec.training.seed,
        distance=distance,
        device=device.accelerator,
        say=run.say,
    )
    write_json(run.output("metrics/world_model.json"), figures | {"perceptual_name": distance.name})
    seconds = {"encode": encoded - began, "train": trained - encoded, "measure": time.monotonic() - trained}
    write_json(run.root / "timings/world_model.json", {"seconds": seconds})


if __name__ == "__main__":
    execute("world_model", main)
