"""Train the state probe on recorded frames and measure its errors: `python -m stages.probe`."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json, write_tsv
from roboalign.probe.data import ProbeClips, Reconstruct, episodes_of
from roboalign.probe.lit import ProbeModule
from roboalign.probe.measure import MeasuredClip, Medium, measure, measured_clips
from roboalign.probe.model import Probe, save_probe
from roboalign.probe.spec import ProbeSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.tokenizer.model import DualBranchTokenizer, load_tokenizer
from roboalign.training import fit, fold
from roboalign.types import UInt8
from roboalign.world_model.model import WorldModel, load_world_model
from roboalign.world_model.sampler import generate

ROLLOUTS = 16
"""Rollouts made at once."""


def main(run: Run) -> None:
    """Run the stage."""
    spec: ProbeSpec = run.section("probe", ProbeSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    where = torch.device(device.accelerator)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    tokenizer = load_tokenizer(run.input("artifacts/tokenizer/model.safetensors")).to(where)
    episodes = episodes_of(corpus.where(split="train"), spec.episodes)
    began = time.monotonic()
    torch.manual_seed(fold(spec.training.seed, 0))
    probe = Probe.of(spec, episodes, (tokenizer.spec.height, tokenizer.spec.width))
    curves = run.output("plots/probe.tsv")
    if episodes:
        run.say(f"{sum(p.numel() for p in probe.parameters()):,} parameters; {len(episodes)} episodes with states of "
                f"{len(probe.tasks)} tasks")  # fmt: skip
        clips = ProbeClips(
            episodes, probe.tasks, spec.frames, spec.augmentation, spec.training.seed,
            reconstructing(tokenizer, where) if spec.augmentation.reconstructed > 0 else None,
        )  # fmt: skip
        run.say(f"reconstructed their frames in {time.monotonic() - began:.0f} s")
        fit(
            ProbeModule(probe), clips, spec.training, device, label=run.label, scratch=run.scratch, curves=curves,
        )  # fmt: skip
    else:
        run.say("no source has states; the probe covers none, and generated clips are labelled by their distance")
        write_tsv(curves, [])
    seconds = time.monotonic() - began
    probe = probe.to(where).eval()
    save_probe(run.output("artifacts/probe/model.safetensors"), probe, run.provenance)
    test = corpus.where(split="test")
    world = load_world_model(run.input("artifacts/world_model/model.safetensors"), str(where))
    media: dict[str, Medium] = {
        "true": lambda clips: [clip.shown for clip in clips],
        "reconstructed": lambda clips: [reconstructing(tokenizer, where)(clip.shown) for clip in clips],
        "generated": generating(tokenizer, world, test, spec.measure.seed, where),
    }
    metrics = measure(probe, measured_clips(probe, test, spec.measure), media, spec.measure)
    write_json(run.output("metrics/probe.json"), metrics)
    write_json(run.root / "timings/probe.json", {"seconds": seconds, "steps": spec.training.steps})
    if "true" in metrics:
        found = {name: metrics["true"][f"{name}_cm"]["mean"] for name in ("gripper", "object", "goal")}
        run.say(", ".join(f"{name} {value:.2f} cm" for name, value in found.items()) + " off on true test frames")


def reconstructing(tokenizer: DualBranchTokenizer, device: torch.device) -> Reconstruct:
    """Frames as the tokenizer gives them back; the first one, their context, as it was."""

    @torch.no_grad()
    def reconstruct(frames: UInt8) -> UInt8:
        video = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float() / 255
        context = tokenizer.encode_context(video[:1])
        made = tokenizer.decode(context, tokenizer.encode(context, video[None, 1:]))[0]
        return np.concatenate([frames[:1], as_frames(made)])

    return reconstruct


def generating(
    tokenizer: DualBranchTokenizer, model: WorldModel, corpus: Corpus, seed: int, device: torch.device
) -> Medium:
    """Clips as the world model continues their first frame under their recorded actions, greedily."""

    @torch.no_grad()
    def roll(clips: Sequence[MeasuredClip]) -> list[UInt8]:
        made: list[UInt8] = []
        for first in range(0, len(clips), ROLLOUTS):
            part = clips[first : first + ROLLOUTS]
            frames = torch.from_numpy(np.stack([clip.shown[0] for clip in part])).to(device)
            actions = np.stack([corpus.actions(c.number)[c.start : c.start + c.frames - 1] for c in part])
            masks = np.stack([corpus.action_mask(clip.number) for clip in part])
            context = tokenizer.encode_context(frames.permute(0, 3, 1, 2).float() / 255)
            tokens = generate(
                model, context.tokens, torch.from_numpy(actions).to(device), torch.from_numpy(masks).to(device),
                torch.arange(first, first + len(part), device=device) + seed, temperature=0.0,
                window=model.spec.segment.frames,
            )  # fmt: skip
            futures = as_frames(tokenizer.decode(context, tokens))
            made += [np.concatenate([clip.shown[:1], future]) for clip, future in zip(part, futures, strict=True)]
        return made

    return roll


def as_frames(videos: torch.Tensor) -> UInt8:
    """Videos (..., 3, H, W) in [0, 1] as uint8 (..., H, W, 3)."""
    pixels = (videos.clamp(0, 1) * 255).round().byte().movedim(-3, -1)
    return np.ascontiguousarray(pixels.cpu().numpy())


if __name__ == "__main__":
    execute("probe", main)
