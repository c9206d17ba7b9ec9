"""Roll out every model with every decoding, and measure the drift: `python -m stages.rollout`."""

from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json, write_tsv
from roboalign.metrics.frechet_spec import FrechetSpec
from roboalign.metrics.perceptual_spec import PerceptualSpec
from roboalign.pipeline.rollouts import load_suite, make_results, roll_out_all
from roboalign.pipeline.sharding import ModelExecutor
from roboalign.pipeline.video_models import VideoModels
from roboalign.rollout.spec import RolloutSpec
from roboalign.run import Run, execute


def main(run: Run) -> None:
    """Run the stage."""
    spec: RolloutSpec = run.section("rollout", RolloutSpec)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    perceptual: PerceptualSpec = run.section("evaluation.perceptual", PerceptualSpec)
    frechet: FrechetSpec | None = run.section("evaluation.frechet", FrechetSpec | None)
    parts = VideoModels.of(run, device_spec.accelerator)
    corpus = parts.corpus()
    with ModelExecutor.of(run) as executor:
        suite = load_suite(spec, parts, corpus, device_spec, executor, run.scratch)
        results = make_results(run, spec, suite.episodes, perceptual, frechet)
        roll_out_all(run, suite, results, corpus)
        first, *others = spec.sampling
        drift, curves = suite.drift(first)
        drift |= {sampling: suite.drift(sampling)[0] for sampling in others}
    write_json(run.output("metrics/rollout.json"), results.summary())
    write_tsv(run.output("plots/rollout.tsv"), results.curves)
    write_json(run.output("metrics/drift.json"), drift)
    write_tsv(run.output("plots/drift.tsv"), curves)
    run.write_timings(results.timings)


if __name__ == "__main__":
    execute("rollout", main)
