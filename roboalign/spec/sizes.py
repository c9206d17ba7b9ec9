"""Sizes in bytes that the memory of several stages is made of."""

import math
from dataclasses import dataclass

from roboalign.metrics.perceptual_spec import LpipsSpec
from roboalign.rollout.spec import DecodingBase
from roboalign.spec.activations import FLOAT
from roboalign.spec.experiment import Experiment

CHUNK_PIXELS = 8 * 64 * 64
"""Pixels of the images that the tokenizer encodes or decodes at once (tokenizer/batch_invariant.py)."""
CONVOLUTION_MAPS = 6
"""Feature maps of the first level that encoding or decoding an image without gradients holds at once."""
PERCEPTUAL = {"vgg": 1_000, "alex": 120, "squeeze": 200}
"""Bytes for each pixel that the feature maps of a perceptual distance take."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of an experiment, in bytes."""

    experiment: Experiment

    @property
    def frame(self) -> float:
        """A frame as numbers."""
        return FLOAT * self.stored_frame

    @property
    def stored_frame(self) -> float:
        """A frame as it is stored."""
        return 3.0 * self.experiment.tokenizer.height * self.experiment.tokenizer.width

    @property
    def context(self) -> float:
        """An encoded context frame."""
        return float(FLOAT * self.experiment.tokenizer.encoded_context)

    @property
    def chunk(self) -> float:
        """Encoding or decoding of some images, without gradients."""
        tokenizer = self.experiment.tokenizer
        images = max(1, CHUNK_PIXELS // (tokenizer.height * tokenizer.width))
        first = tokenizer.widths[0] * math.prod(tokenizer.resolution(0))
        return float(images * CONVOLUTION_MAPS * FLOAT * first)

    @property
    def tokenizer(self) -> float:
        """The tokenizer's weights."""
        return float(FLOAT * self.experiment.tokenizer.parameters)

    @property
    def world_model(self) -> float:
        """The world model's weights, and a sampler's copy: transposed on a CPU, in bfloat16, or for compiled graphs."""
        device = self.experiment.hardware.device
        copied = device.accelerator == "cpu" or device.sampler.compile or self._cached_number != FLOAT
        return float((FLOAT + copied * self._cached_number) * self.parameters)

    @property
    def _cached_number(self) -> int:
        """Bytes of a number of the key-value cache and of the sampler's weights."""
        return FLOAT if self.experiment.hardware.device.sampler.precision == "32-true" else FLOAT // 2

    @property
    def parameters(self) -> int:
        """Parameters of the world model."""
        tokenizer = self.experiment.tokenizer
        return self.experiment.world_model.parameters(
            tokenizer.context_tokens,
            tokenizer.dynamics_tokens,
            tokenizer.context_levels,
            tokenizer.dynamics_levels,
            max(source.action_width for source in self.experiment.sources.values()),
        )

    @property
    def gathered_weights(self) -> float:
        """Whole weights and gradients that FSDP gathers: two layers, and all that is not in layers; 0 without FSDP."""
        if self.experiment.hardware.device.weight_shards == 1:
            return 0.0
        model = self.experiment.world_model
        others = self.parameters - model.layers * model.layer_parameters
        return 2.0 * FLOAT * (2 * model.layer_parameters + others)

    @property
    def weights_before_sharding(self) -> float:
        """Up to three copies of the weights in each rank of a machine, until FSDP shards them; 0 without FSDP."""
        device = self.experiment.hardware.device
        return 3.0 * FLOAT * self.parameters * device.devices * (device.weight_shards > 1)

    @property
    def perceptual(self) -> float:
        """The feature maps of a perceptual distance of one frame and its target."""
        spec = self.experiment.evaluation.perceptual
        backbone = spec.backbone if isinstance(spec, LpipsSpec) else "alex"
        return 2.0 * PERCEPTUAL.get(backbone, max(PERCEPTUAL.values())) * self.stored_frame / 3

    def rollouts(self, decoding: DecodingBase, rows: int, frames: int) -> dict[str, float]:
        """Rollouts in progress: caches, contexts, frames."""
        tokenizer, model = self.experiment.tokenizer, self.experiment.world_model
        prefix = model.prefix_tokens(tokenizer.context_tokens, tokenizer.dynamics_tokens)
        peak = decoding.peak_sequence(frames, prefix, model.frame_tokens(tokenizer.dynamics_tokens))
        return {
            "key-value cache": float(model.cache_bytes(peak, rows, self._cached_number)),
            # While a context is encoded again, the old one and its parts are there too.
            "encoded contexts": 2 * decoding.contexts * rows * self.context,
            "frames": 2 * rows * (1 + frames) * self.frame,
            "encoding and decoding": self.chunk,
        }
