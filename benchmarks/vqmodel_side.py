"""diffusers' VQModel, trained and timed. Runs in an interpreter that has `diffusers`, without RoboAlign.

python benchmarks/vqmodel_side.py JOB

JOB is a JSON object: `train` and `test` (.npy files of uint8 frames, (N, 3, H, W)), `out` (where the reconstructed test
frames go, float32 .npy), `channels` (of each resolution, fine to coarse), `codes`, `seconds` (of CPU time to train
for), `batch`, `learning_rate`, `threads`, `loss` (weights of absolute and squared error), `speeds` (batch sizes).
Prints figures as JSON.
"""

import json
import math
import sys
import time
from typing import Any

import numpy as np
import torch
from diffusers import VQModel, __version__

LATENT, GROUPS, WARM_UP = 4, 8, 50
"""Width of a code's vector (few: more codes find use), groups of the norms, steps of warm-up."""


def build(channels: list[int], codes: int) -> VQModel:
    """A plain one: residual convolutions, attention at the coarsest resolution alone, as it comes."""
    depth = len(channels)
    return VQModel(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=tuple(channels),
        layers_per_block=1,
        latent_channels=LATENT,
        num_vq_embeddings=codes,
        norm_num_groups=GROUPS,
    )


def scaled(frames: np.ndarray[Any, Any]) -> torch.Tensor:
    """uint8 to float32 in [-1, 1]."""
    return torch.from_numpy(frames).float() / 127.5 - 1


def restored(outputs: torch.Tensor) -> torch.Tensor:
    """To [0, 1]."""
    return (outputs / 2 + 0.5).clamp(0, 1)


def train(model: VQModel, job: dict[str, Any]) -> int:
    """Train for the job's CPU seconds; the number of steps. The schedule follows the seconds that are left."""
    frames = np.load(job["train"], mmap_mode="r")
    draw = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=job["learning_rate"], weight_decay=0.01)
    with torch.no_grad():
        # The codebook begins as latents of frames: from its own beginnings, most codes are never used.
        first = model.encode(scaled(frames[np.sort(draw.integers(len(frames), size=256))])).latents
        vectors = first.permute(0, 2, 3, 1).flatten(0, 2)
        codes = model.quantize.embedding.weight
        codes.copy_(vectors[torch.from_numpy(draw.integers(len(vectors), size=len(codes)))])
    absolute, squared = job["loss"]
    steps, began = 0, time.process_time()
    model.train()
    while (progress := (time.process_time() - began) / job["seconds"]) < 1:
        for group in optimizer.param_groups:
            cosine = (1 + math.cos(math.pi * progress)) / 2
            group["lr"] = job["learning_rate"] * min(1.0, (steps + 1) / WARM_UP) * cosine
        batch = scaled(frames[np.sort(draw.integers(len(frames), size=job["batch"]))])
        result = model(batch)
        error = (result.sample - batch) / 2
        loss = absolute * error.abs().mean() + squared * error.square().mean() + result.commit_loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
        if steps % 100 == 0:
            print(f"step {steps} ({progress:.0%}), loss {loss.item():.4f}", file=sys.stderr, flush=True)
    return steps


def encode(model: VQModel, batch: torch.Tensor) -> torch.Tensor:
    """Codes (B, r, c)."""
    latents = model.encode(batch).latents
    return model.quantize(latents)[2][2].reshape(len(batch), *latents.shape[2:])


def decode(model: VQModel, codes: torch.Tensor) -> torch.Tensor:
    """Frames in [-1, 1] of codes (B, r, c)."""
    vectors = model.quantize.get_codebook_entry(codes.flatten(), (*codes.shape, LATENT))
    return model.decode(vectors, force_not_quantize=True).sample


def rate(call: Any, frames: int) -> float:
    """Frames a second: the best of a second's worth of calls."""
    call()
    best, until = math.inf, time.perf_counter() + 1
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return frames / best


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train, reconstruct, time."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    model = build(job["channels"], job["codes"])
    steps = train(model, job)
    model.eval()
    test = np.load(job["test"])
    with torch.inference_mode():
        codes = torch.cat([encode(model, scaled(test[start : start + 32])) for start in range(0, len(test), 32)])
        outputs = [restored(decode(model, codes[start : start + 32])) for start in range(0, len(test), 32)]
        np.save(job["out"], torch.cat(outputs).numpy())
        speeds = {}
        for size in job["speeds"]:
            batch, some = scaled(test[:size]), codes[:size]
            speeds[str(size)] = {
                "encode": rate(lambda batch=batch: encode(model, batch), size),
                "decode": rate(lambda some=some: decode(model, some), size),
            }
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": codes[0].numel(),
        "used": len(codes.unique()),
        "steps": steps,
        "diffusers": __version__,
        "speeds": speeds,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
