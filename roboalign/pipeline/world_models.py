"""Training of the world model on a tokenizer's tokens, and its measures by rollouts."""

import shutil

import torch
from torch import Tensor

from roboalign.hardware.spec import DeviceSpec, SamplerSpec
from roboalign.io import replacing
from roboalign.metrics.perceptual import build_perceptual
from roboalign.metrics.perceptual_spec import PerceptualSpec
from roboalign.rollout.ar import ArDecoder
from roboalign.rollout.prompt import Start
from roboalign.run import Run
from roboalign.store import Corpus
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.training import fit, fold_in
from roboalign.types import Json
from roboalign.world_model.init import initialize_world_model
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.lit import Snapshot, WorldModelTraining, early_step
from roboalign.world_model.measure import RolloutFn, measure
from roboalign.world_model.model import WorldModel, save_world_model, seeded_world_model
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.segments import Segments
from roboalign.world_model.spec import WorldModelSpec


def train_world_model(
    run: Run, spec: WorldModelSpec, segments: Segments, shape: TokenShape, device_spec: DeviceSpec
) -> WorldModel:
    """Train on tokenised segments, and write the final and the early weights."""
    scratch = run.scratch
    model = seeded_world_model(spec, shape, fold_in(spec.training.seed, 3))
    if spec.init is not None:
        run.log(initialize_world_model(model, spec.init, scratch))
    model.activation_checkpointing = run.activation_checkpointing
    if device_spec.compile:
        model.compile()
    early = scratch / "early.safetensors"
    if spec.training.steps == 0:  # nothing is trained: the early model is the imported one
        save_world_model(early, model, run.provenance)
    snapshot = Snapshot(model, early_step(spec.training.steps, spec.early_fraction), early, run.provenance)
    training = WorldModelTraining(model)
    fit(
        training, segments, spec.training, device_spec, label=run.label, scratch=scratch,
        curves=run.output("plots/world_model.tsv"), callbacks=(snapshot,), micro_batches=run.micro_batches.world_model,
    )  # fmt: skip
    save_world_model(run.output("artifacts/world_model/model.safetensors"), training.result, run.provenance)
    with replacing(run.output("artifacts/world_model/early.safetensors")) as temporary:
        shutil.copyfile(early, temporary)
    return training.result.to(device_spec.accelerator).eval()


def measure_world_model(
    run: Run,
    spec: WorldModelSpec,
    tokenizer: BatchInvariantTokenizer,
    model: WorldModel,
    corpus: Corpus,
    sampler_spec: SamplerSpec,
) -> Json:
    """The figures of metrics/world_model.json: autoregressive rollouts of the test split of `corpus`."""
    device = next(model.parameters()).device
    distance = build_perceptual(run.section("evaluation.perceptual", PerceptualSpec)).to(device)

    # ArDecoder itself, not `build_decoder`: this training should not run again for a new decoding.
    def rollout_at(temperature: float) -> RolloutFn:
        sampler = Sampler(model, temperature=temperature, spec=sampler_spec)

        def roll_out(
            frames: Tensor, actions: Tensor, mask: Tensor, seeds: Tensor, proprioception: Tensor
        ) -> tuple[Tensor, Tensor]:
            start = Start(frames, mask, seeds, actions.shape[1], proprioception)
            decoder = ArDecoder(tokenizer, sampler, start)
            tokens = torch.stack([decoder.step(action) for action in actions.unbind(1)], 1)
            return decoder.take_frames(), tokens

        return roll_out

    metrics = measure(
        rollout_at, tokenizer, corpus.filter(split="test"), spec.measure, donors=corpus, seed=spec.training.seed,
        distance=distance, device=str(device), log=run.log,
    )  # fmt: skip
    return metrics | {"perceptual_name": distance.name}
