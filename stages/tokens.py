"""Encode the training segments of the world model by the tokenizer: `python -m stages.tokens`."""

import time

from roboalign.pipeline.sharding import ModelExecutor
from roboalign.pipeline.tokens import TokenInputs, encode_tokens
from roboalign.run import Run, execute
from roboalign.world_model.segment_spec import SegmentSpec
from roboalign.world_model.segments import write_index


def main(run: Run) -> None:
    """Write `artifacts/tokens`, in shards by episode that any number of workers encodes to the same bytes."""
    segment: SegmentSpec | None = run.section("world_model.segment", SegmentSpec | None)
    output = run.output("artifacts/tokens")
    if segment is None:
        output.mkdir(exist_ok=True)
        write_index(output, [])
        run.log("world_model.segment is null: the world model is not trained, nothing is encoded")
        return
    inputs = TokenInputs(
        run.input("artifacts/sources/index.json"), run.input("artifacts/tokenizer/model.safetensors"), segment,
        run.section("world_model.contexts", int),
    )  # fmt: skip
    scratch = run.scratch / "tokens"
    scratch.mkdir(exist_ok=True)
    started = time.monotonic()
    with ModelExecutor.of(run) as executor:
        count = encode_tokens(inputs, output, scratch, executor, run.log)
    seconds = time.monotonic() - started
    run.write_timings({"seconds": seconds, "segments_per_second": count / seconds})


if __name__ == "__main__":
    execute("tokens", main)
