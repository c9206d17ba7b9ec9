"""Does an imported RLVR-World model compute what RLVR-World's own code computes? With made-up weights, on a CPU.

python -m benchmarks.rlvr_world_import --checkout FOLDER --python PYTHON [--write]

FOLDER is a checkout of github.com/thuml/RLVR-World, PYTHON an interpreter that has `diffusers`, `transformers`,
`einops` and `imageio`. There, `rlvr_world_side.py` builds the peer's own classes, gives them weights that are a
function of their names, saves them as its training does, and computes tokens, frames, logits and greedy rollouts.
Here, the files are imported by `init`, as the stages do, and compute the same: tokens and greedy rollouts have to be
equal, frames and logits to differ by at most 1e-4. At the released sizes, names and shapes are compared without memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import machine, record
from roboalign.spec.weights import RlvrWorldInitSpec
from roboalign.store.corpus import ActionRange
from roboalign.tokenizer.compressive import CompressiveTokenizer
from roboalign.tokenizer.init import initialize_tokenizer
from roboalign.tokenizer.model import build_tokenizer
from roboalign.tokenizer.rlvr_world import config_differences, peer_shapes
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.world_model.init import initialize_world_model
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.spec import WorldModelSpec

SIDE = Path(__file__).parent / "rlvr_world_side.py"
TRAINING = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3}
RANGES = ((-0.4, 0.4), (0.0, 1.0), (-1.57, 1.57), (-5.5, 22.1))
"""Least and largest value of each made-up action dimension."""
FRAMES = 2
"""Frames that are rolled out."""
LIMIT = 1e-4
SMALL: dict[str, Any] = {
    "block_out_channels": [32, 64], "layers_per_block": 1, "latent_channels": 8, "mid_block_add_attention": False,
    "resolution": 64, "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 12,
}  # fmt: skip


def tokenizer_spec(height: int, width: int, widths: list[int], blocks: int, latent: int) -> TokenizerSpec:
    """The spec of a tokenizer in RLVR-World's architecture."""
    return TokenizerSpec.model_validate(
        {
            "height": height, "width": width, "widths": widths, "blocks": blocks, "context_grid": [32, 40],
            "dynamics_grid": [8, 10], "architecture": {"kind": "compressive", "latent_channels": latent},
            "training": TRAINING,
        }
    )  # fmt: skip


def world_model_spec(layers: int, hidden: int, heads: int, inner: int, actions: int) -> WorldModelSpec:
    """The spec of a world model in RLVR-World's layout."""
    return WorldModelSpec.model_validate(
        {
            "layers": layers, "hidden_size": hidden, "heads": heads, "kv_heads": heads, "intermediate_size": inner,
            "max_position_embeddings": 4096, "embedding": "table", "previous_codes": False, "places": False,
            "still_tokens": True, "norm_epsilon": 1e-6, "training": TRAINING,
            "actions": {"kind": "tokens", "bins": 256, "width": actions},
        }
    )  # fmt: skip


def run_side(python: str, **job: Any) -> None:
    """Run `rlvr_world_side.py`. Raises SystemExit with its standard error if it fails."""
    variables = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    command = [python, str(SIDE), json.dumps(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def compare(folder: Path) -> dict[str, float]:
    """The number of differing tokens, and the largest difference of frames and logits, by what was compared."""
    expected = {name: torch.from_numpy(value) for name, value in np.load(folder / "expected.npz").items()}
    tokenizer = build_tokenizer(tokenizer_spec(64, 80, SMALL["block_out_channels"], 1, SMALL["latent_channels"])).eval()
    init = RlvrWorldInitSpec(kind="rlvr_world", uri=str(folder / "tokenizer"))
    initialize_tokenizer(tokenizer, init, folder)
    spec = world_model_spec(2, 48, 4, 96, len(RANGES))
    model = WorldModel(spec, TokenShape.of(tokenizer.spec, len(RANGES))).eval()
    initialize_world_model(model, RlvrWorldInitSpec(kind="rlvr_world", uri=str(folder / "llama")), folder)
    frames, ids = expected["frames"], expected["ids"]
    low, high = zip(*RANGES, strict=True)
    actions = torch.from_numpy(ActionRange(low, high).normalise(expected["actions"][0].numpy()))[None]
    mask = torch.ones(1, len(RANGES), dtype=torch.bool)
    shape = model.shape
    with torch.no_grad():
        context = tokenizer.encode_context(frames[:, 0])
        dynamics = tokenizer.encode(context, frames[:, 1:])
        # In training form, which does not bound the frames: nothing is hidden by clipping.
        shown = tokenizer(frames[:, 0], frames[:, 1:])
        # Theirs has an action after each frame of the segment, the first of which is the context frame once more.
        logits = model(context.tokens, dynamics[:, 1:], actions[:, 1:-1], mask)
        state = (sampler := Sampler(model, temperature=0)).start(context.tokens, mask, torch.zeros(1).long(), FRAMES)
        greedy = torch.stack([sampler.step(state, action) for action in actions[:, 1:-1].unbind(1)], 1)
    after = ids[0, shape.context_tokens :].reshape(-1, shape.dynamics_tokens + len(RANGES))
    bins = ((actions[0, 1:] + 1) * 128).floor().clamp(0, 255)
    predicting = torch.cat(
        [torch.arange(model.layout.start(f), model.layout.start(f + 1))[model.layout.predicting] for f in range(FRAMES)]
    )
    return {
        "context tokens": int((context.tokens[:, None, : shape.context_tokens] != expected["context"]).sum()),
        "dynamics tokens": int((dynamics != expected["dynamics"]).sum()),
        "still tokens": int((context.tokens[:, shape.context_tokens :] != dynamics[:, 0]).sum()),
        "action bins": int((after[:, shape.dynamics_tokens :] - 2 * shape.dynamics_codes != bins).sum()),
        "context frame": float((shown[0] - expected["decoded"][:, 0]).abs().max()),
        "later frames": float((shown[1] - expected["decoded"][:, 1:]).abs().max()),
        "logits": float((logits.flatten(1, 2) - expected["logits"][:, predicting]).abs().max()),
        "greedy tokens": int((greedy != expected["greedy"]).sum()),
        "different context tokens": len(set(expected["context"].flatten().tolist())),
        "different dynamics tokens": len(set(expected["dynamics"].flatten().tolist())),
        "different greedy tokens": len(set(expected["greedy"].flatten().tolist())),
    }


def released(folder: Path) -> dict[str, int]:
    """Parameters of both models at the released sizes. Raises SystemExit if names or shapes are not the peer's."""
    shapes = json.loads((folder / "shapes.json").read_text())
    spec = tokenizer_spec(256, 320, [128, 256, 256, 512], 2, 64)
    with torch.device("meta"):
        tokenizer = CompressiveTokenizer(spec)
    differences = list(config_differences(spec, shapes["config"]))
    if {key: list(shape) for key, shape in peer_shapes(tokenizer).items()} != shapes["tokenizer"] or differences:
        raise SystemExit(f"the released tokenizer has other names or shapes; {'; '.join(differences)}")
    vocabulary = shapes["llama"]["model.embed_tokens.weight"][0]
    if vocabulary != spec.dynamics_codes + spec.context_codes + 256 + 2:
        raise SystemExit(f"the released world model has {vocabulary} ids")
    return {part: sum(int(np.prod(shape)) for shape in shapes[part].values()) for part in ("tokenizer", "llama")}


def main() -> int:
    """Compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="of github.com/thuml/RLVR-World")
    parser.add_argument("--python", required=True, help="an interpreter that has diffusers and transformers")
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, job = Path(name), {"checkout": str(options.checkout.resolve()), "out": name}
        run_side(options.python, **job, meta=True, llama={})
        sizes = released(folder)
        run_side(options.python, **job, tokenizer=SMALL, size=[64, 80], llama=LLAMA, frames=FRAMES, ranges=RANGES)
        found = compare(folder)
    wrong = [key for key, value in found.items() if not key.startswith("different") and value > LIMIT]
    rows = [f"| {key} | {value:.3g} |" for key, value in found.items()]
    text = "\n".join(
        [
            f"`python -m benchmarks.rlvr_world_import --write`: {machine()} Made-up weights; tokens: how many differ; "
            "frames and logits: the largest difference.",
            "",
            "| compared | difference |",
            "| --- | --- |",
            *rows,
            "",
            f"At the released sizes, all names and shapes are equal: {sizes['tokenizer']:,} parameters of the "
            f"tokenizer, {sizes['llama']:,} of the world model.",
        ]
    )
    print(text)
    if options.write:
        record("Importing RLVR-World", text)
    if wrong:
        print(f"differs: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
