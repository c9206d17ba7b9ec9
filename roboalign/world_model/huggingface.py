"""LLaMA weights in Hugging Face's layout: `config.json` and safetensors, as `LlamaForCausalLM` writes and reads them.

    export_llama(model, folder)                       # for transformers, vLLM and others
    model = import_llama(folder, shape, training)     # a peer's transformer, to be rolled out or trained on
    load_llama(model, folder)                         # the same, for a model whose spec is known

Our vocabularies for context, dynamics and actions lie one after the other in the one vocabulary of such a model, where
`LlamaVocabulary` says. Its default is that of RLVR-World: dynamics codes, context codes, action bins, begin and end.
Only a plain LLaMA has such a layout: one with `places`, `previous_codes`, digit embeddings or action slots is refused.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from roboalign import checkpoint
from roboalign.io import read_json, replacing, write_json
from roboalign.spec.training import TrainingSpec
from roboalign.types import Json
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import Layer, WorldModel
from roboalign.world_model.spec import TokenActionsSpec, WorldModelSpec

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
"""Types that such weights are published in."""
SIZES = (
    "layers", "hidden_size", "heads", "kv_heads", "intermediate_size", "rope_base", "norm_epsilon",
)  # fmt: skip
"""Fields of the spec that a config.json has to agree with."""
SPECIAL = 2
"""Ids after the last action bin: begin and end of a sequence. They are not used here."""


class LlamaError(checkpoint.CheckpointError):
    """A model has no such layout, or a folder does not hold one that fits; the message says what differs."""


@dataclass(frozen=True, slots=True)
class LlamaVocabulary:
    """Offsets of our vocabularies in the vocabulary of a language model."""

    dynamics: int
    """Id of the dynamics code 0."""
    context: int
    """Id of the context code 0."""
    actions: int
    """Id of the action bin 0."""
    size: int
    """Ids in all."""

    @classmethod
    def of_rlvr_world(cls, shape: TokenShape, bins: int) -> "LlamaVocabulary":
        """Dynamics, context, action bins, begin, end (RLVR-World)."""
        context = shape.dynamics_codes
        actions = context + shape.context_codes
        return cls(0, context, actions, actions + bins + SPECIAL)


def export_llama(model: WorldModel, folder: Path) -> LlamaVocabulary:
    """Write `config.json` and `model.safetensors` into a folder, and return where the vocabularies lie.

    Ids that the model never uses get zeros. Raises LlamaError if the model is not a plain LLaMA.
    """
    spec, actions = model.spec, _token_actions(model.spec)
    words = LlamaVocabulary.of_rlvr_world(model.shape, actions.bins)
    table = torch.zeros(words.size, spec.hidden_size)
    head = torch.zeros(words.size, spec.hidden_size)
    for start, rows in (
        (words.dynamics, model.dynamics.weight),
        (words.context, model.context.weight),
        (words.actions, model.actions.weight),
    ):
        table[start : start + len(rows)] = rows.detach().cpu()
    head[words.dynamics : words.dynamics + model.shape.dynamics_codes] = model.head.weight.detach().cpu()
    tensors = {"model.embed_tokens.weight": table, "lm_head.weight": head, "model.norm.weight": model.norm}
    query, key_value = spec.heads * spec.head_width, spec.kv_heads * spec.head_width
    for number, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        place = f"model.layers.{number}"
        q, k, v = torch.split(layer.qkv.weight, [query, key_value, key_value])
        gate, up = layer.up.weight.chunk(2)
        tensors |= {
            f"{place}.input_layernorm.weight": layer.attention_norm,
            f"{place}.self_attn.q_proj.weight": q,
            f"{place}.self_attn.k_proj.weight": k,
            f"{place}.self_attn.v_proj.weight": v,
            f"{place}.self_attn.o_proj.weight": layer.out.weight,
            f"{place}.post_attention_layernorm.weight": layer.ffn_norm,
            f"{place}.mlp.gate_proj.weight": gate,
            f"{place}.mlp.up_proj.weight": up,
            f"{place}.mlp.down_proj.weight": layer.down.weight,
        }
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS) as temporary:
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
        save_file(plain, str(temporary), metadata={"format": "pt"})
    write_json(folder / CONFIG, config(spec, words))
    return words


def config(spec: WorldModelSpec, words: LlamaVocabulary) -> dict[str, Json]:
    """The `config.json` of a plain LLaMA."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_width,
        "max_position_embeddings": spec.max_position_embeddings,
        "rms_norm_eps": spec.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_base},
        "rope_theta": spec.rope_base,
        "vocab_size": words.size,
        "bos_token_id": words.size - 2,
        "eos_token_id": words.size - 1,
        "torch_dtype": "float32",
    }


def import_llama(
    folder: Path,
    shape: TokenShape,
    training: TrainingSpec,
    *,
    bins: int = 256,
    words: LlamaVocabulary | None = None,
    still_tokens: bool = False,
) -> WorldModel:
    """The world model with the weights of a LLaMA in `folder`, for a tokenizer and sources of a `shape`.

    `words` says where the vocabularies lie, by default as `LlamaVocabulary.of_rlvr_world`; `bins` are the action bins,
    the action width of `shape` the action tokens of a frame. Raises LlamaError if the folder is damaged or does not
    fit.
    """
    settings = _settings(folder)
    spec = _spec(folder, settings, shape, training, bins, still_tokens)
    # Before the model is built: a config.json cannot ask for one that is larger than its file.
    taken = _Taken(folder, _tensors(folder))
    taken("model.embed_tokens.weight", (settings.get("vocab_size"), spec.hidden_size))
    taken(f"model.layers.{spec.layers - 1}.mlp.down_proj.weight", (spec.hidden_size, spec.intermediate_size))
    model = WorldModel(spec, shape)
    load_llama(model, folder, words)
    return model.eval()


def load_llama(model: WorldModel, folder: Path, words: LlamaVocabulary | None = None) -> None:
    """Set the weights of `model` to those of a LLaMA in `folder`; `words` as for `import_llama`.

    Raises LlamaError if the model is not a plain LLaMA, or the folder is damaged or does not fit the model's spec.
    """
    spec, shape, settings = model.spec, model.shape, _settings(folder)
    bins = _token_actions(spec).bins
    words = words or LlamaVocabulary.of_rlvr_world(shape, bins)
    described = _spec(folder, settings, shape, spec.training, bins, spec.still_tokens)
    for field in SIZES:
        ours, theirs = getattr(spec, field), getattr(described, field)
        if ours != theirs:
            raise LlamaError(
                f"{folder / CONFIG}: says {field} {theirs}, the spec {ours}; set world_model.{field} to {theirs}"
            )
    tensors = _tensors(folder)
    taken = _Taken(folder, tensors)
    table = taken("model.embed_tokens.weight", (int(settings["vocab_size"]), spec.hidden_size))
    tied = bool(settings.get("tie_word_embeddings", False))
    head = table if tied else taken("lm_head.weight", tuple(table.shape))
    ends = (words.dynamics + shape.dynamics_codes, words.context + shape.context_codes, words.actions + bins)
    if max(ends) > len(table):
        raise LlamaError(
            f"{folder}: its vocabulary has {len(table)} ids, the tokenizer and the actions need {max(ends)}"
        )
    hidden, query, key_value = spec.hidden_size, spec.heads * spec.head_width, spec.kv_heads * spec.head_width
    weights = {
        "dynamics.weight": table[words.dynamics : ends[0]],
        "context.weight": table[words.context : ends[1]],
        "actions.weight": table[words.actions : ends[2]],
        "head.weight": head[words.dynamics : ends[0]],
        "norm": taken("model.norm.weight", (hidden,)),
    }
    for number in range(spec.layers):
        place, layer = f"model.layers.{number}", f"layers.{number}"
        parts = (("q", query), ("k", key_value), ("v", key_value))
        projections = [taken(f"{place}.self_attn.{name}_proj.weight", (rows, hidden)) for name, rows in parts]
        gate_up = [
            taken(f"{place}.mlp.{name}_proj.weight", (spec.intermediate_size, hidden)) for name in ("gate", "up")
        ]
        weights |= {
            f"{layer}.qkv.weight": torch.cat(projections),
            f"{layer}.out.weight": taken(f"{place}.self_attn.o_proj.weight", (hidden, query)),
            f"{layer}.up.weight": torch.cat(gate_up),
            f"{layer}.down.weight": taken(f"{place}.mlp.down_proj.weight", (hidden, spec.intermediate_size)),
            f"{layer}.attention_norm": taken(f"{place}.input_layernorm.weight", (hidden,)),
            f"{layer}.ffn_norm": taken(f"{place}.post_attention_layernorm.weight", (hidden,)),
        }
    taken.everything()
    model.load_state_dict(weights)


def is_plain_llama(spec: WorldModelSpec) -> bool:
    """Whether a model of this spec has LLaMA's layout."""
    return not _extras(spec)


def _extras(spec: WorldModelSpec) -> list[str]:
    """Features of a model that a plain LLaMA does not have."""
    extras = {
        "embedding is digits": spec.embedding != "table",
        "previous_codes is true": spec.previous_codes,
        "places is true": spec.places,
        "actions are of kind slot": spec.actions.kind != "tokens",
        "proprioception is not null": spec.proprioception is not None,
    }
    return [name for name, present in extras.items() if present]


def _token_actions(spec: WorldModelSpec) -> TokenActionsSpec:
    """The action tokens of a plain LLaMA. Raises LlamaError for any other model."""
    found = _extras(spec)
    if found or not isinstance(spec.actions, TokenActionsSpec):
        raise LlamaError(f"the world model is not a plain LLaMA ({', '.join(found)}), so LLaMA's layout cannot hold it")
    return spec.actions


def _settings(folder: Path) -> dict[str, Json]:
    try:
        value = read_json(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise LlamaError(f"{folder / CONFIG} cannot be read ({error}); the folder needs LLaMA's config.json") from None
    if not isinstance(value, dict) or value.get("model_type") != "llama":
        raise LlamaError(f"{folder / CONFIG}: model_type is not llama; only LLaMA models can be imported")
    scaling = value.get("rope_scaling") or value.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default")) if isinstance(scaling, dict) else scaling
    if kind != "default" or value.get("attention_bias") or value.get("mlp_bias") or value.get("hidden_act") != "silu":
        raise LlamaError(f"{folder / CONFIG}: scaled rotary angles, biases and activations but silu cannot be imported")
    return value


def _spec(
    folder: Path, settings: dict[str, Json], shape: TokenShape, training: TrainingSpec, bins: int, still_tokens: bool
) -> WorldModelSpec:
    rope = settings.get("rope_parameters") or {}
    try:
        heads = settings["num_attention_heads"]
        if settings.get("head_dim") not in (None, settings["hidden_size"] // heads):
            raise LlamaError(f"{folder / CONFIG}: head_dim is not hidden_size / num_attention_heads")
        return WorldModelSpec(
            layers=settings["num_hidden_layers"],
            hidden_size=settings["hidden_size"],
            heads=heads,
            kv_heads=settings.get("num_key_value_heads") or heads,
            intermediate_size=settings["intermediate_size"],
            rope_base=float(rope.get("rope_theta") or settings.get("rope_theta") or 10_000),
            max_position_embeddings=settings["max_position_embeddings"],
            actions=TokenActionsSpec(kind="tokens", bins=bins, width=shape.action_width),
            embedding="table",
            previous_codes=False,
            places=False,
            still_tokens=still_tokens,
            norm_epsilon=settings.get("rms_norm_eps") or 1e-6,
            training=training,
        )
    except LlamaError:
        raise
    except KeyError as error:
        raise LlamaError(f"{folder / CONFIG} has no {error}") from None
    except (ValueError, TypeError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise LlamaError(f"{folder / CONFIG} describes no model ({' '.join(str(error).split())})") from None


def _tensors(folder: Path) -> dict[str, Tensor]:
    """The weights, of one file or of the several that an index names."""
    try:
        if not (folder / INDEX).exists():
            return load_file(str(folder / WEIGHTS))
        names = read_json(folder / INDEX)["weight_map"].values()
        parts = [load_file(str(folder / Path(name).name)) for name in sorted(set(names))]
        return {name: tensor for part in parts for name, tensor in part.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise LlamaError(f"{folder}: its weights cannot be read ({error}); it needs {WEIGHTS}") from None


class _Taken:
    """Hands out weights by name and shape, and knows which nobody asked for.

    Raises LlamaError if one is missing, has another shape or type, or holds values that are not finite: the contract of
    `checkpoint.load_into`, but for half precision, in which such weights are published.
    """

    def __init__(self, folder: Path, tensors: dict[str, Tensor]) -> None:
        self._folder, self._tensors, self._left = folder, tensors, set(tensors)

    def __call__(self, name: str, shape: tuple[Json, ...]) -> Tensor:
        if name not in self._tensors:
            raise LlamaError(f"{self._folder}: the weight {name} is missing")
        found = self._tensors[name]
        if tuple(found.shape) != shape:
            raise LlamaError(f"{self._folder}: the weight {name} is {tuple(found.shape)}, its config says {shape}")
        if found.dtype not in FLOATS:
            raise LlamaError(
                f"{self._folder}: the weight {name} is of type {found.dtype}, not a float of 16 or 32 bits"
            )
        try:
            checkpoint.check_finite(self._folder, {name: found}, "fetch it again")
        except checkpoint.CheckpointError as error:
            raise LlamaError(str(error)) from None
        self._left.discard(name)
        return found

    def everything(self) -> None:
        left = sorted(
            name for name in self._left if not name.endswith("rotary_emb.inv_freq") and name != "lm_head.weight"
        )
        if left:
            raise LlamaError(f"{self._folder}: it holds weights that no LLaMA has: {', '.join(left[:5])}")
