"""Align the world model on a reward of its own rollouts, the student distilled online: `python -m stages.rl`."""

import time

import torch

from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json, write_tsv
from roboalign.pipeline.alignment import PolicyMeasure, check_rows, gradient_cosines, load_held_out, make_module
from roboalign.pipeline.models import MODEL, load_reward_models
from roboalign.reward.rewards import build_reward
from roboalign.reward.spec import RewardSpec
from roboalign.rl.measure import compare_policies
from roboalign.rl.prompts import Prompts
from roboalign.rl.spec import RLSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.student.model import load_student, save_student
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.tokenizer.model import load_tokenizer
from roboalign.training import fit
from roboalign.types import Json
from roboalign.world_model.model import load_world_model, save_world_model


def main(run: Run) -> None:
    """Run the stage."""
    spec: RLSpec = run.section("rl", RLSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    device = torch.device(device_spec.accelerator)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    train, validation, test = (corpus.where(split=split) for split in ("train", "validation", "test"))
    tokenizer = BatchInvariantTokenizer(load_tokenizer(run.input(f"artifacts/tokenizer/{MODEL}")).to(device))
    world = run.input(f"artifacts/world_model/{MODEL}")
    policy, reference = (load_world_model(world, str(device)) for _ in range(2))
    student, distilled = (load_student(run.input(f"artifacts/student/{MODEL}")).to(device) for _ in range(2))
    models = load_reward_models(run, reward, student, device)
    signal = build_reward(spec.reward, reward, models)
    scorers = load_held_out(run, distilled, device)
    prompts = Prompts(train, spec.horizon, spec.stride, spec.policies)

    def measure(held: Prompts, count: int, seed: int) -> PolicyMeasure:
        numbers = held.evenly(count)
        return PolicyMeasure(
            spec, held, numbers, reference.requires_grad_(False), tokenizer, scorers, models, device, seed, signal
        )

    guard = None
    if spec.guard is not None:
        guard = measure(Prompts(validation, spec.horizon, spec.horizon), spec.guard.prompts, spec.measure.seed + 1)
    bench = Bench.open(run.input("artifacts/bench"), corpus, reward.names)
    module = make_module(run, spec, policy, reference, student, models, prompts, tokenizer, signal, bench, guard)
    metrics: dict[str, Json] = {"steps": spec.training.steps}
    if spec.measure.gradient_batches:
        metrics["gradient_cosine"] = gradient_cosines(module, prompts, spec.measure.gradient_batches, device)
    run.say(
        f"{len(prompts)} prompts, {spec.training.batch_size} a step in groups of {spec.group_size}, "
        f"by {spec.optimizer.kind}"
    )
    started = time.monotonic()
    fit(
        module, prompts, spec.training, device_spec, label=run.label, scratch=run.scratch,
        curves=run.output("plots/rl.tsv"),
    )  # fmt: skip
    module.to(device).finish()
    seconds = time.monotonic() - started
    policy, student = policy.eval(), student.eval()
    save_world_model(run.output(f"artifacts/rl/{MODEL}"), policy, run.provenance)
    save_student(run.output("artifacts/rl/student.safetensors"), student, run.provenance)
    write_tsv(run.output("plots/rl_checks.tsv"), check_rows(module))
    if spec.distillation is not None:
        scorers["student_online"] = student
    held = measure(Prompts(test, spec.horizon, spec.horizon), spec.measure.prompts, spec.measure.seed)
    before, after = (held(model) for model in (reference, policy))
    names = [f"{name}{suffix}" for name in (*scorers, "gold") for suffix in ("", "_faithful")]
    metrics |= compare_policies(before, after, ("proxy", *names), held.episodes())
    write_json(run.output("metrics/rl.json"), metrics)
    write_json(run.root / "timings/rl.json", {"seconds": seconds, "steps": spec.training.steps})
    for name in ("gold_faithful", "held_out_faithful", "student_faithful"):
        gain = metrics["reward"].get(name)
        if gain is not None:
            run.say(f"{name} on test prompts {gain['before']:.3f} → {gain['after']:.3f} "
                    f"({gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}])")  # fmt: skip


if __name__ == "__main__":
    execute("rl", main)
