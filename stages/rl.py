"""Align the world model on a reward of its own rollouts, the student distilled online: `python -m stages.rl`."""

import time

import torch

from roboalign.distributed import is_rank
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json, write_tsv
from roboalign.pipeline.alignment import check_rows, gradient_cosines, load_alignment
from roboalign.reward.spec import RewardSpec
from roboalign.rl.spec import RLSpec
from roboalign.run import Run, execute
from roboalign.student.model import save_student
from roboalign.training import fit
from roboalign.types import Json
from roboalign.world_model.model import save_world_model


def main(run: Run) -> None:
    """Run the stage."""
    spec: RLSpec = run.section("rl", RLSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    device = torch.device(device_spec.accelerator)
    alignment = load_alignment(run, spec, reward, device)
    module, prompts = alignment.module, alignment.prompts
    metrics: dict[str, Json] = {"steps": spec.training.steps}
    if spec.measure.gradient_batches and not is_rank():
        metrics["gradient_cosine"] = gradient_cosines(module, prompts, spec.measure.gradient_batches, device_spec)
    run.log(
        f"{len(prompts)} prompts, {spec.training.batch_size} a step in groups of {spec.group_size}, "
        f"by {spec.optimizer.kind}"
    )
    started = time.monotonic()
    fit(
        module, prompts, spec.training, device_spec, label=run.label, scratch=run.scratch,
        curves=run.output("plots/rl.tsv"), micro_batches=module.micro_batches,
    )  # fmt: skip
    module.to(device).finish()
    seconds = time.monotonic() - started
    save_world_model(run.output("artifacts/rl/model.safetensors"), alignment.policy, run.provenance)
    save_student(run.output("artifacts/rl/student.safetensors"), alignment.student, run.provenance)
    write_tsv(run.output("plots/rl_checks.tsv"), check_rows(module))
    metrics |= alignment.compare()
    write_json(run.output("metrics/rl.json"), metrics)
    run.write_timings({"seconds": seconds, "steps": spec.training.steps})
    for name in ("gold_faithful", "held_out_faithful", "student_faithful"):
        gain = metrics["reward"].get(name)
        if gain is not None:
            run.log(f"{name} on test prompts {gain['before']:.3f} → {gain['after']:.3f} "
                    f"({gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}])")  # fmt: skip


if __name__ == "__main__":
    execute("rl", main)
