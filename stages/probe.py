"""Train one state probe on its part of the episodes and measure its errors: `python -m stages.probe NAME`."""

import time

import torch

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json, write_tsv
from roboalign.pipeline.outcomes import measure_outcomes, train_outcome_model
from roboalign.probe.data import ProbeClips, select_episodes
from roboalign.probe.lit import ProbeModule
from roboalign.probe.measure import Medium, generate_clips, measure, measured_clips
from roboalign.probe.model import Probe, save_probe
from roboalign.probe.outcome import save_outcome_model
from roboalign.probe.spec import ProbeSpec
from roboalign.rollout.clip_generator import make_clip_generator, make_reconstructor
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.model import load_tokenizer
from roboalign.training import fit, fold_in
from roboalign.types import Json
from roboalign.world_model.model import load_world_model
from roboalign.world_model.sampler import Sampler


def main(run: Run) -> None:
    """Run the stage."""
    spec: ProbeSpec = run.section(f"probe.{run.item}", ProbeSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    device = torch.device(device_spec.accelerator)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    tokenizer = BatchInvariantTokenizer(load_tokenizer(run.input("artifacts/tokenizer/model.safetensors")).to(device))
    episodes = select_episodes(corpus.where(split="train"), spec)
    started = time.monotonic()
    torch.manual_seed(fold_in(spec.training.seed, 0))
    probe = Probe.of(spec.network, episodes, (tokenizer.spec.height, tokenizer.spec.width))
    curves = run.output(f"plots/probe/{run.item}.tsv")
    reconstruct = make_reconstructor(tokenizer, device)
    if episodes:
        run.say(f"{sum(p.numel() for p in probe.parameters()):,} parameters; {len(episodes)} episodes of "
                f"{len(probe.tasks)} tasks, part {spec.part} of {spec.parts}")  # fmt: skip
        blurred = reconstruct if spec.augmentation.reconstructed > 0 else None
        clips = ProbeClips(episodes, probe.tasks, spec.frames, spec.augmentation, spec.training.seed, blurred)
        fit(
            ProbeModule(probe, spec),
            clips,
            spec.training,
            device_spec,
            label=run.label,
            scratch=run.scratch,
            curves=curves,
        )
    else:
        run.say("no source has states, so the probe covers none; generated clips are labelled by their distance")
        write_tsv(curves, [])
    seconds, metrics = time.monotonic() - started, dict[str, Json]()
    probe = probe.to(device).eval()
    save_probe(run.output(f"artifacts/probe/{run.item}/model.safetensors"), probe, run.provenance)
    if spec.outcome is not None:
        model = train_outcome_model(run, spec.outcome, probe, corpus, device_spec)
        save_outcome_model(
            run.output(f"artifacts/probe/{run.item}/outcome.safetensors"), model, len(probe.tasks), run.provenance
        )
        metrics["outcome"] = measure_outcomes(probe, model, corpus.where(split="test"))
    test = corpus.where(split="test")
    world = load_world_model(run.input("artifacts/world_model/model.safetensors"), str(device))
    generate = make_clip_generator(tokenizer, Sampler(world, temperature=0.0), spec.measure.decoding, device)
    media: dict[str, Medium] = {
        "true": lambda clips: [clip.shown_frames for clip in clips],
        "reconstructed": lambda clips: [reconstruct(clip.shown_frames) for clip in clips],
        "generated": lambda clips: generate_clips(generate, clips, test, spec.measure.seed),
    }
    metrics |= measure(probe, measured_clips(probe, test, spec.measure), media, spec.measure)
    write_json(run.output(f"metrics/probe/{run.item}.json"), metrics)
    write_json(run.root / f"timings/{run.label}.json", {"seconds": seconds, "steps": spec.training.steps})
    if "true" in metrics:
        errors = {name: metrics["true"][f"{name}_cm"]["mean"] for name in ("gripper", "object", "goal")}
        run.say("errors on true test frames: " + ", ".join(f"{name} {value:.2f} cm" for name, value in errors.items()))


if __name__ == "__main__":
    execute("probe", main)
