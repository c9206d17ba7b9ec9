"""Training and measures of a state probe and of its outcome model."""

import numpy as np
import torch
from torch import Tensor

from roboalign.hardware.spec import DeviceSpec, SamplerSpec
from roboalign.io import write_tsv
from roboalign.metrics.statistics import bootstrap
from roboalign.probe.data import ProbeClips, select_episodes
from roboalign.probe.lit import OutcomeModule, ProbeModule
from roboalign.probe.measure import Medium, generate_clips, measure, measured_clips
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeClips, OutcomeModel, PerceivedEpisode
from roboalign.probe.probe_metrics import auc
from roboalign.probe.spec import OutcomeSpec, ProbeMeasureSpec, ProbeSpec
from roboalign.rollout.clip_generator import make_clip_generator, make_reconstructor
from roboalign.run import Run
from roboalign.store import Corpus
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.training import fit, fold_in
from roboalign.types import STATE_NAMES, Json
from roboalign.world_model.model import WorldModel
from roboalign.world_model.sampler import Sampler

_SUCCESS = STATE_NAMES.index("success")


def train_probe(
    run: Run, spec: ProbeSpec, tokenizer: BatchInvariantTokenizer, corpus: Corpus, device_spec: DeviceSpec
) -> Probe:
    """Train a state probe on its part of the train split of `corpus`; untrained if no source has states."""
    episodes = select_episodes(corpus.filter(split="train"), spec)
    torch.manual_seed(fold_in(spec.training.seed, 0))
    probe = Probe.of(spec.network, episodes, (tokenizer.spec.height, tokenizer.spec.width))
    curves = run.output(f"plots/probe/{run.item}.tsv")
    if episodes:
        run.log(f"{sum(p.numel() for p in probe.parameters()):,} parameters; {len(episodes)} episodes of "
                f"{len(probe.tasks)} tasks, part {spec.part} of {spec.parts}")  # fmt: skip
        device = torch.device(device_spec.accelerator)
        reconstruct = make_reconstructor(tokenizer, device) if spec.augmentation.reconstructed > 0 else None
        clips = ProbeClips(episodes, probe.tasks, spec.frames, spec.augmentation, spec.training.seed, reconstruct)
        fit(
            ProbeModule(probe, spec), clips, spec.training, device_spec, label=run.label, scratch=run.scratch,
            curves=curves, micro_batches=run.micro_batches.probe,
        )  # fmt: skip
    else:
        run.log("no source has states, so the probe covers none; generated clips are labelled by their distance")
        write_tsv(curves, [])
    return probe.to(device_spec.accelerator).eval()


def measure_probe(
    spec: ProbeMeasureSpec,
    probe: Probe,
    tokenizer: BatchInvariantTokenizer,
    model: WorldModel,
    test: Corpus,
    sampler_spec: SamplerSpec,
) -> dict[str, Json]:
    """The errors of a probe on true, reconstructed and generated frames of test episodes."""
    device = next(model.parameters()).device
    reconstruct = make_reconstructor(tokenizer, device)
    generate = make_clip_generator(tokenizer, Sampler(model, temperature=0.0, spec=sampler_spec), spec.decoding, device)
    media: dict[str, Medium] = {
        "true": lambda clips: [clip.shown_frames for clip in clips],
        "reconstructed": lambda clips: [reconstruct(clip.shown_frames) for clip in clips],
        "generated": lambda clips: generate_clips(generate, clips, test, spec.seed),
    }
    return measure(probe, measured_clips(probe, test, spec), media, spec)


def perceive_episodes(probe: Probe, corpus: Corpus) -> list[PerceivedEpisode]:
    """The episodes of the tasks that the probe covers, as it perceives them."""
    result: list[PerceivedEpisode] = []
    for number, (source, task) in enumerate(probe.tasks):
        rows: dict[int, list[int]] = {}
        for row, info in enumerate(corpus.infos):
            if (info.source, info.task) == (source, task):
                rows.setdefault(info.length, []).append(row)
        for same in rows.values():
            states = probe.states(source, task, np.stack([corpus.frames(row) for row in same]))
            result += [PerceivedEpisode(s, corpus.actions(row), number) for s, row in zip(states, same, strict=True)]
    return result


def train_outcome_model(run: Run, spec: OutcomeSpec, probe: Probe, corpus: Corpus, device: DeviceSpec) -> OutcomeModel:
    """The outcome model of a probe; untrained if the probe covers no task."""
    torch.manual_seed(fold_in(spec.training.seed, 1))
    model = OutcomeModel(spec, len(probe.tasks), corpus.action_width)
    if probe.tasks:
        episodes = perceive_episodes(probe, corpus.filter(split="train"))
        clips = OutcomeClips(episodes, spec.length, spec.training.seed)
        scratch = run.scratch / "outcome"
        scratch.mkdir(exist_ok=True)
        fit(
            OutcomeModule(model), clips, spec.training, device, label=f"{run.label} outcome", scratch=scratch,
            curves=scratch / "curve.tsv", micro_batches=run.micro_batches.probe,
        )  # fmt: skip
    return model.to(device.accelerator).eval()


@torch.no_grad()
def measure_outcomes(probe: Probe, model: OutcomeModel, corpus: Corpus) -> dict[str, Json]:
    """How far predicted positions are from the perceived ones of the true future, in centimetres, with the figures of a
    prediction that nothing moves beside them; and how well predicted success separates the perceived outcomes (AUC)."""
    errors: dict[str, list[float]] = {}
    chances, outcomes = [], []
    for episode in perceive_episodes(probe, corpus):
        states = torch.from_numpy(episode.states)
        actions = torch.from_numpy(episode.actions[:-1])[None]
        expected: Tensor = model(states[:1], actions, torch.tensor([episode.task]))[0]
        for name, columns in (("gripper", slice(0, 3)), ("object", slice(3, 6))):
            for kind, guess in (("", expected), ("_still", states[:1])):
                far = 100 * (guess[..., columns] - states[..., columns]).norm(dim=-1)[1:].mean()
                errors.setdefault(f"{name}_cm{kind}", []).append(float(far))
        chances.append(float(expected[-1, _SUCCESS]))
        outcomes.append(bool(states[-1, _SUCCESS] > 0.5))
    if not chances:
        return {}
    result: dict[str, Json] = {name: bootstrap(values).json() for name, values in errors.items()}
    separation = float(auc(np.array(chances), np.array(outcomes), np.ones((1, len(chances))))[0])
    return result if np.isnan(separation) else result | {"success_auc": separation}
