"""Train one state probe on its part of the episodes and measure its errors: `python -m stages.probe NAME`."""

import time

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.pipeline.probes import measure_outcomes, measure_probe, train_outcome_model, train_probe
from roboalign.pipeline.video_models import VideoModels
from roboalign.probe.model import save_probe
from roboalign.probe.outcome import save_outcome_model
from roboalign.probe.spec import ProbeSpec
from roboalign.run import Run, execute
from roboalign.types import Json


def main(run: Run) -> None:
    """Run the stage."""
    spec: ProbeSpec = run.section(f"probe.{run.item}", ProbeSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    parts = VideoModels.of(run, device_spec.accelerator)
    corpus, tokenizer, folder = parts.corpus(), parts.tokenizer(), run.output(f"artifacts/probe/{run.item}")
    test = corpus.filter(split="test")
    started = time.monotonic()
    probe = train_probe(run, spec, tokenizer, corpus, device_spec)
    seconds, metrics = time.monotonic() - started, dict[str, Json]()
    save_probe(folder / "model.safetensors", probe, run.provenance)
    if spec.outcome is not None:
        outcome = train_outcome_model(run, spec.outcome, probe, corpus, device_spec)
        save_outcome_model(folder / "outcome.safetensors", outcome, len(probe.tasks), run.provenance)
        metrics["outcome"] = measure_outcomes(probe, outcome, test)
    metrics |= measure_probe(spec.measure, probe, tokenizer, parts.world_model(), test, device_spec.sampler)
    write_json(run.output(f"metrics/probe/{run.item}.json"), metrics)
    run.write_timings({"seconds": seconds, "steps": spec.training.steps})
    if "true" in metrics:
        errors = {name: metrics["true"][f"{name}_cm"]["mean"] for name in ("gripper", "object", "goal")}
        run.log("errors on true test frames: " + ", ".join(f"{name} {value:.2f} cm" for name, value in errors.items()))


if __name__ == "__main__":
    execute("probe", main)
