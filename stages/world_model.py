"""Train the world model on the tokens of the training episodes (stage `tokens`) and roll out the test episodes.

python -m stages.world_model
"""

import time

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json
from roboalign.pipeline.video_models import VideoModels
from roboalign.pipeline.world_models import measure_world_model, train_world_model
from roboalign.run import Run, execute
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.segments import open_segments
from roboalign.world_model.spec import WorldModelSpec


def main(run: Run) -> None:
    """Run the stage."""
    spec: WorldModelSpec = run.section("world_model", WorldModelSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    parts = VideoModels.of(run, device_spec.accelerator)
    corpus, tokenizer = parts.corpus(), parts.tokenizer()
    segments = open_segments(run.input("artifacts/tokens"))
    started = time.monotonic()
    proprioception_width = 0 if spec.proprioception is None else corpus.proprioception_width
    shape = TokenShape.of(tokenizer.spec, corpus.action_width, proprioception_width)
    model = train_world_model(run, spec, segments, shape, device_spec)
    trained = time.monotonic()
    metrics = measure_world_model(run, spec, tokenizer, model, corpus, device_spec.sampler)
    write_json(run.output("metrics/world_model.json"), metrics)
    seconds = {"train": trained - started, "measure": time.monotonic() - trained}
    run.write_timings({"seconds": seconds, "steps": spec.training.steps})
    gain = metrics["gain_over_copy_context_psnr"]
    run.log(f"PSNR {metrics['psnr']:.2f} dB, {gain['mean']:+.2f} [{gain['low']:.2f}, {gain['high']:.2f}] "
            "over copying the context")  # fmt: skip


if __name__ == "__main__":
    execute("world_model", main)
