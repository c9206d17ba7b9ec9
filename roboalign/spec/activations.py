"""The activations that training keeps for the backward pass, in bytes."""

import math

from roboalign.hardware.spec import HardwareSpec
from roboalign.spec.experiment import Experiment
from roboalign.world_model.spec import WorldModelSpec

FLOAT = 4
"""Bytes of a number."""


def activation_bytes(model: WorldModelSpec, precision: str) -> int:
    """Bytes that one layer keeps of one token for the backward pass; fused attention does not keep its matrix.

    In float32: the residual stream and its two normalised forms, twice; queries, keys and values before and after the
    rotation; the attended values, twice; of SwiGLU, both halves, the activated gate and the product. In mixed precision
    the residual stream and one normalised form stay float32, and all else has 2 bytes.
    """
    hidden, key_value, inner = model.hidden_size, model.kv_heads * model.head_width, model.intermediate_size
    if precision == "32-true":
        return FLOAT * (10 * hidden + 3 * key_value + 4 * inner)
    return 26 * hidden + 6 * key_value + 8 * inner


def transformer_activations(experiment: Experiment, tokens: float, frames: float) -> float:
    """Bytes that training keeps of `tokens` tokens in all layers, and of the logits of the codes of `frames` frames.

    With activation checkpointing, the inputs of each layer, and one layer at a time.
    """
    tokenizer, model, hardware = experiment.tokenizer, experiment.world_model, experiment.hardware
    layer = tokens * activation_bytes(model, hardware.device.precision)
    inputs = tokens * FLOAT * model.hidden_size
    layers = layer + model.layers * inputs if hardware.activation_checkpointing else model.layers * layer
    return layers + frames * tokenizer.dynamics_tokens * tokenizer.dynamics_codes * 3 * FLOAT


def segment_activations(experiment: Experiment, rows: int, frames: int) -> float:
    """Bytes that the training of the world model keeps of `rows` segments of `frames` frames."""
    tokenizer, model = experiment.tokenizer, experiment.world_model
    length = model.sequence_tokens(tokenizer.context_tokens, tokenizer.dynamics_tokens, frames)
    return transformer_activations(experiment, rows * length, rows * frames)


def policy_tokens(experiment: Experiment, rows: int) -> tuple[int, int]:
    """Tokens of the sequences of `rows` rollouts in alignment, a micro-batch, and contexts of the first window.

    Each window is a sequence; in the first one, the rollouts of a group share their context, if the micro-batch has
    whole groups or a part of one.
    """
    rl, tokenizer, model = experiment.rl, experiment.tokenizer, experiment.world_model
    tokens = tokenizer.context_tokens, tokenizer.dynamics_tokens
    windows = math.ceil(rl.horizon / rl.decoding.peak_frames(rl.horizon))
    shared = rows % rl.group_size == 0 or rl.group_size % rows == 0
    contexts = math.ceil(rows / rl.group_size) if shared else rows
    prefixes = (contexts + rows * (windows - 1)) * model.prefix_tokens(*tokens)
    return prefixes + rows * rl.horizon * model.frame_tokens(tokenizer.dynamics_tokens), contexts


def policy_activations(experiment: Experiment, rows: int) -> float:
    """Bytes that alignment keeps of `rows` rollouts, a micro-batch, for the policy's backward pass."""
    tokenizer, model, hardware = experiment.tokenizer, experiment.world_model, experiment.hardware
    tokens, contexts = policy_tokens(experiment, rows)
    kept = transformer_activations(experiment, tokens, rows * experiment.rl.horizon)
    if contexts < rows:  # each rollout's attention keeps a copy of the shared keys and values
        prefix = model.prefix_tokens(tokenizer.context_tokens, tokenizer.dynamics_tokens)
        layers = 1 if hardware.activation_checkpointing else model.layers
        kept += rows * model.cache_bytes(prefix, 1, number_bytes(hardware)) * layers / model.layers
    return kept


def decoder_activations(experiment: Experiment) -> float:
    """Bytes that a gradient through the decoder keeps of one frame."""
    tokenizer = experiment.tokenizer
    cells = sum(width * math.prod(tokenizer.resolution(level)) for level, width in enumerate(tokenizer.widths))
    return float(FLOAT * 4 * tokenizer.residual_blocks * cells)


def number_bytes(hardware: HardwareSpec) -> int:
    """Bytes of an activation of a convolution, or of a key or value of attention."""
    return FLOAT if hardware.device.precision == "32-true" else FLOAT // 2
