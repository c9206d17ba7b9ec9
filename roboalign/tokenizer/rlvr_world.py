"""RLVR-World's published tokenizer: the keys of its files, and where each tensor goes in `CompressiveTokenizer`.

The folder holds `config.json` and `diffusion_pytorch_model.safetensors`, as diffusers' `save_pretrained` writes them.
"""

import re
from collections.abc import Iterator

from torch import Tensor

from roboalign.tokenizer.architecture_spec import CompressiveSpec
from roboalign.tokenizer.compressive import CompressiveTokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Json

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"

FSQ_LEVELS = {8: (8, 6, 5), 10: (8, 5, 5, 5), 12: (7, 5, 5, 5, 5), 14: (8, 8, 8, 6, 5), 16: (8, 8, 8, 5, 5, 5)}
"""FSQ levels by the bits that its config names (Mentzer et al., table 1)."""

HEADS = 4
"""Heads of its cross-attention; neither its config nor its weights contain this number."""

RENAMED = (
    (r"^context_in\.", "quant_conv."),
    (r"^context_out\.", "post_quant_conv."),
    (r"^dynamics_in\.", "quant_linear."),
    (r"^dynamics_out\.", "post_quant_linear."),
    (r"^(encoder|decoder)_attention\.", r"cond_\1.cross_att_blocks."),
    (r"^(encoder|decoder)\.", r"cond_\1."),
    (r"^context_(encoder|decoder)\.", r"\1."),
    (r"\bstem\.", "conv_in."),
    (r"coder\.norm\.", "coder.conv_norm_out."),
    (r"coder\.head\.", "coder.conv_out."),
    (r"encoder\.levels\.(\d+)\.resample\.", r"encoder.down_blocks.\1.downsamplers.0.conv."),
    (r"decoder\.levels\.(\d+)\.resample\.", r"decoder.up_blocks.\1.upsamplers.0.conv."),
    (r"encoder\.levels\.(\d+)\.blocks\.", r"encoder.down_blocks.\1.resnets."),
    (r"decoder\.levels\.(\d+)\.blocks\.", r"decoder.up_blocks.\1.resnets."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.middle\.1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.middle\.1\.query\.", ".mid_block.attentions.0.to_q."),
    (r"\.middle\.1\.key\.", ".mid_block.attentions.0.to_k."),
    (r"\.middle\.1\.value\.", ".mid_block.attentions.0.to_v."),
    (r"\.middle\.1\.out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"(cross_att_blocks\.\d+)\.query_norm\.", r"\1.q_norm."),
    (r"(cross_att_blocks\.\d+)\.key_norm\.", r"\1.kv_norm."),
    (r"(cross_att_blocks\.\d+)\.query_position$", r"\1.q_pos_emb"),
    (r"(cross_att_blocks\.\d+)\.key_position$", r"\1.kv_pos_emb"),
    (r"(cross_att_blocks\.\d+)\.out\.", r"\1.att.out_proj."),
    (r"(cross_att_blocks\.\d+)\.(query|key|value)\.(weight|bias)$", r"\1.att.in_proj_\3"),
)
"""Patterns that turn our names into theirs, applied in this order. Theirs has query, key and value in one matrix."""


def peer_key(name: str) -> tuple[str, int | None]:
    """The key of our tensor `name` in the published file, and which third of that tensor it is (None: all of it)."""
    key = name
    for pattern, replacement in RENAMED:
        key = re.sub(pattern, replacement, key)
    third = ("query", "key", "value").index(name.split(".")[-2]) if "att.in_proj_" in key else None
    return key, third


def peer_shapes(model: CompressiveTokenizer) -> dict[str, tuple[int, ...]]:
    """The keys and shapes that a published file has for a tokenizer of this size."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        key, third = peer_key(name)
        shape = tuple(tensor.shape)
        shapes[key] = shape if third is None else (3 * shape[0], *shape[1:])
    return shapes


def convert(model: CompressiveTokenizer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of `model` from the tensors of a published file, which have the keys and shapes of `peer_shapes`."""
    state = {}
    for name in model.state_dict():
        key, third = peer_key(name)
        state[name] = tensors[key] if third is None else tensors[key].chunk(3)[third]
    return {name: tensor.float().clone() for name, tensor in state.items()}


def config_differences(spec: TokenizerSpec, config: dict[str, Json]) -> Iterator[str]:
    """The differences between a published config.json and `spec`, each with the field to change."""
    network = spec.architecture
    if not isinstance(network, CompressiveSpec):
        yield "it is RLVR-World's; set tokenizer.architecture to {kind: compressive}"
        return
    wanted: list[tuple[str, Json, Json]] = [
        ("widths", list(spec.widths), config.get("block_out_channels")),
        ("blocks", spec.blocks, config.get("layers_per_block")),
        ("architecture.latent_channels", network.latent_channels, config.get("latent_channels")),
        ("architecture.groups", network.groups, config.get("norm_num_groups", 32)),
        ("architecture.context_attention", network.context_attention, config.get("mid_block_add_attention", True)),
        ("attention.heads", spec.attention.heads, HEADS),
        ("attention.max_height", spec.attention.max_height, config.get("max_att_resolution", 32)),
        ("height", spec.height, config.get("resolution", 256)),
        ("context_levels", list(spec.context_levels), _levels(config.get("vq_fsq_levels", 12))),
        ("dynamics_levels", list(spec.dynamics_levels), _levels(config.get("dyn_fsq_levels", 12))),
        ("dynamics_grid", spec.context_grid[0] // spec.dynamics_grid[0], config.get("patch_size", 4)),
    ]
    for field, ours, theirs in wanted:
        if ours != theirs:
            what = f"folds {ours} x {ours} features into a token" if field == "dynamics_grid" else f"is {ours}"
            yield f"tokenizer.{field} {what}, the published tokenizer has {theirs}; change tokenizer.{field}"
    for key, value in (("context_length", 1), ("act_fn", "silu"), ("norm_type", "group")):
        if config.get(key, value) != value:
            yield f"its {key} is {config[key]}, but only {value} can be imported"


def _levels(bits: Json) -> Json:
    """The FSQ levels of a config: given by bits, or as they are."""
    return list(FSQ_LEVELS[bits]) if isinstance(bits, int) and bits in FSQ_LEVELS else bits
