"""Reconstruction metrics of a trained tokenizer: metrics/tokenizer.json."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.metrics.perceptual_distance import PerceptualDistance
from roboalign.metrics.statistics import bootstrap, paired_difference
from roboalign.metrics.video import psnr, ssim
from roboalign.store import Corpus
from roboalign.tokenizer.data import channels_first, evenly_spaced_indices
from roboalign.tokenizer.interface import Tokenizer
from roboalign.video import to_float

Scores = dict[str, NDArray[np.float64]]

COUNTED = 2000
"""Least number of frames over which code usage is counted, if the corpus has so many."""


def scores(model: Tokenizer, corpus: Corpus, perceptual: PerceptualDistance, device: torch.device) -> Scores:
    """Each measure's mean over the evaluated frames of each episode, its first frame being the context.

    `copy_context_psnr` repeats the context, `copy_last_psnr` the true frame before.
    """
    rows: list[dict[str, Tensor]] = []
    for number, info in enumerate(corpus.infos):
        video = to_float(channels_first(corpus.frames(number))).to(device)
        later = evenly_spaced_indices(info.length, model.spec.samples.horizon, model.spec.samples.evaluated)
        target = video[later].unsqueeze(0)
        with torch.no_grad():
            context = model.encode_context(video[:1])
            output = model.decode(context, model.encode(context, target))
            rows.append(
                {
                    "psnr": psnr(output, target).mean(),
                    "ssim": ssim(output, target).mean(),
                    "perceptual": perceptual(output, target).mean(),
                    "copy_context_psnr": psnr(video[:1].expand_as(target), target).mean(),
                    "copy_context_ssim": ssim(video[:1].expand_as(target), target).mean(),
                    "copy_last_psnr": psnr(video[[t - 1 for t in later]].unsqueeze(0), target).mean(),
                    "copy_last_ssim": ssim(video[[t - 1 for t in later]].unsqueeze(0), target).mean(),
                    "context_psnr": psnr(model.decode_context(context.tokens)[:, None], video[None, :1]).mean(),
                }
            )
    # One transfer from the device for each measure, not for each number.
    return {key: torch.stack([row[key] for row in rows]).double().cpu().numpy() for key in rows[0]}


def code_usage(model: Tokenizer, corpus: Corpus, device: torch.device) -> tuple[dict[str, float], int]:
    """The share of codes that occur at least once in each branch, and over how many frames that was counted."""
    spec = model.spec
    used = {"context": np.zeros(spec.context_codes, bool), "dynamics": np.zeros(spec.dynamics_codes, bool)}
    counted = 0
    stride = max(1, sum(info.length for info in corpus.infos) // COUNTED)
    for number in range(len(corpus)):
        video = to_float(channels_first(corpus.frames(number)[number % stride :: stride])).to(device)
        if len(video) < 2:
            continue
        with torch.no_grad():
            tokens = model.encode_context(video).tokens[:, : spec.context_tokens]
            context = model.encode_context(video[:1])
            later = model.encode(context, video[None, 1:])
        used["context"][tokens.cpu().numpy()] = True
        used["dynamics"][later.cpu().numpy()] = True
        counted += len(video)
    return {name: float(mask.mean()) for name, mask in used.items()}, counted


def measure(
    model: Tokenizer, train: Corpus, test: Corpus, perceptual: PerceptualDistance, device: torch.device
) -> dict[str, Any]:
    """The metrics file: means over test episodes with their intervals, in all and by source; the gate; codes used.

    Raises ValueError if there is no test episode.
    """
    if len(test) == 0:
        raise ValueError("the sources hold no test episode; give their `test` split a share, or record more episodes")
    found = scores(model, test, perceptual, device)
    sources = np.array([info.source for info in test.infos])

    def summary(rows: NDArray[np.bool_]) -> dict[str, Any]:
        means: dict[str, Any] = {key: bootstrap(values[rows]).json() for key, values in found.items()}
        return means | {"gain_psnr": paired_difference(found["psnr"][rows], found["copy_context_psnr"][rows]).json()}

    used, counted = code_usage(model, train, device)
    whole = summary(np.ones(len(sources), bool))
    return whole | {
        "perceptual_name": perceptual.name,
        "codes_used_fraction": used,
        "codes_counted_frames": counted,
        "parameters": model.spec.parameters,
        "n": len(test),
        "by_source": {source: summary(sources == source) for source in sorted(set(sources.tolist()))},
        "gates": {"codec_above_copy_context": {"passed": whole["gain_psnr"]["low"] > 0, "psnr": whole["gain_psnr"]}},
    }
