"""RLVR-World's own classes with made-up weights, saved as its training saves them, and what they compute.

Runs in an interpreter that has `diffusers`, `transformers`, `einops` and `imageio`, without RoboAlign:

python benchmarks/rlvr_world_side.py JOB

JOB is a JSON object: `checkout` (of github.com/thuml/RLVR-World), `out` (a folder), `tokenizer` (arguments of
CompressiveVQModelFSQ), `size` (height and width of frames), `llama` (changes to ctx_llama_small.json), `frames`,
`ranges` (least and largest value of each action dimension). Writes `tokenizer/` and `llama/`, as `save_pretrained`
does, and `expected.npz`. With `meta` true it writes only the names and shapes, to `shapes.json`, without memory.
"""

import json
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch


def weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A weight as a function of its name and shape alone; tests/tokenizer/test_rlvr_world.py has the same."""
    count = int(np.prod(shape))
    numbers = (np.arange(count, dtype=np.uint64) * 2_654_435_761 + zlib.crc32(key.encode())) % 2**32
    values = numbers / 2**31 - 1
    if len(shape) == 1:
        values = values * 0.1 + ("norm" in key and key.endswith("weight"))
    else:
        values = values * (0.1 if key.endswith("pos_emb") else np.sqrt(3 * shape[0] / count))
        values = values * (6 if key.startswith("quant_") else 1)  # else most latents would get the middle code
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def fill(model: torch.nn.Module) -> None:
    """Give every weight of a model its made-up values."""
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            tensor.copy_(weight(key, tuple(tensor.shape)))


def frames(count: int, height: int, width: int) -> torch.Tensor:
    """Frames (1, count, 3, H, W) in [0, 1]: waves that move."""
    t, c, y, x = np.ogrid[0:count, 0:3, 0:height, 0:width]
    waves = np.sin(0.37 * x + 0.5 * t + c) * np.cos(0.21 * y - 0.3 * t) + np.sin(0.05 * x * (1 + c) - 0.9 * t)
    return torch.from_numpy((0.5 + 0.25 * waves).astype(np.float32))[None]


def main(job: dict[str, Any]) -> None:
    """Do the job."""
    sys.path.insert(0, str(Path(job["checkout"]) / "vid_wm/ivideogpt"))
    from ivideogpt.ctx_tokenizer import compressive_vq_model_fsq
    from ivideogpt.ctx_tokenizer.compressive_vq_model_fsq import CompressiveVQModelFSQ
    from transformers import AutoConfig, AutoModelForCausalLM

    out = Path(job["out"])
    config = AutoConfig.from_pretrained(Path(job["checkout"]) / "vid_wm/ivideogpt/configs/vgpt/ctx_llama_small.json")
    config.update(job["llama"])
    if job.get("meta"):
        settings = json.loads((Path(job["checkout"]) / "vid_wm/ivideogpt/configs/ctx_vae256/config.json").read_text())
        quantizer = compressive_vq_model_fsq.FSQ

        def on_cpu(levels: list[int]) -> torch.nn.Module:
            """Its quantizer reads numbers of its buffers, which the meta device has not."""
            with torch.device("cpu"):
                return quantizer(levels)

        compressive_vq_model_fsq.FSQ = on_cpu
        names = {name: value for name, value in settings.items() if not name.startswith("_")}
        with torch.device("meta"):
            models = {
                "tokenizer": CompressiveVQModelFSQ(**names),
                "llama": AutoModelForCausalLM.from_config(config),
            }
        shapes = {part: {k: list(v.shape) for k, v in model.state_dict().items()} for part, model in models.items()}
        (out / "shapes.json").write_text(json.dumps(shapes | {"config": settings}))
        return
    tokenizer = CompressiveVQModelFSQ(**job["tokenizer"]).eval()
    fill(tokenizer)
    tokenizer.save_pretrained(out / "tokenizer")
    llama = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    fill(llama)
    llama.save_pretrained(out / "llama")
    from ivideogpt.processor import ContextMultiStepPredictionProcessor

    torch.save(torch.tensor(job["ranges"]), out / "ranges.pth")
    codes, width = 4375, len(job["ranges"])
    processor = ContextMultiStepPredictionProcessor(
        SimpleNamespace(
            action_ranges_path=out / "ranges.pth", visual_token_num=codes, action_bins=256,
            tokenizer_micro_batch_size=None,
        ),
        tokenizer,
    )  # fmt: skip
    video = frames(job["frames"] + 1, *job["size"])
    # The context frame comes twice: as the context, and as the first frame of the segment.
    pixels = torch.cat([video[:, :1], video], 1)
    times = torch.arange(job["frames"] + 2, dtype=torch.float32)[:, None]
    ranges = torch.tensor(job["ranges"])
    share = 0.5 + 0.6 * torch.sin(times + torch.arange(width))
    actions = (ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * share)[None]
    with torch.no_grad():
        context, dynamics = tokenizer.tokenize(pixels)
        decoded = tokenizer.detokenize(context, dynamics)
        inputs, _, _ = processor(pixels, actions, return_interpolated=True, return_ctx_tokens=True)
        ids = inputs["input_ids"]
        logits = llama(input_ids=ids).logits[..., :codes]
        # As its evaluation does: a frame's dynamics tokens one by one, then its action tokens as they were recorded.
        # Its sampler may name any id; here it is held to dynamics codes, which are all that a decoder can show.
        tokens, drawn = ids[:, : context.shape[2] + dynamics.shape[2] + width], []
        cache = None
        for number in range(job["frames"]):
            for _ in range(dynamics.shape[2]):
                step = tokens if cache is None else tokens[:, cache.get_seq_length() :]
                answer = llama(input_ids=step, past_key_values=cache, use_cache=True)
                cache = answer.past_key_values
                drawn.append(answer.logits[:, -1, :codes].argmax(-1, keepdim=True))
                tokens = torch.cat([tokens, drawn[-1]], 1)
            at = context.shape[2] + (number + 2) * (dynamics.shape[2] + width)
            tokens = torch.cat([tokens, ids[:, at - width : at]], 1)
    np.savez(
        out / "expected.npz", frames=pixels, actions=actions, context=context, dynamics=dynamics, decoded=decoded,
        ids=ids, logits=logits, greedy=torch.cat(drawn, 1).reshape(1, job["frames"], -1),
    )  # fmt: skip


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
