"""The layout of Hugging Face's LLaMA: what transformers computes with exported weights is what we compute."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from generation import generate
from safetensors.torch import load_file, save_file
from torch import Tensor

from roboalign.spec.training import TrainingSpec
from roboalign.world_model.huggingface import LlamaError, LlamaVocabulary, export_llama, import_llama
from roboalign.world_model.model import WorldModel, discretise
from tests.world_model.conftest import SHAPE, Batch

PLAIN: dict[str, Any] = {
    "embedding": "table", "previous_codes": False, "places": False, "kv_heads": 1, "norm_epsilon": 1e-6,
    "actions": {"kind": "tokens", "bins": 8, "width": 3},
}  # fmt: skip
TRAINING = TrainingSpec(steps=1, batch_size=1, learning_rate=0.1)


def ids(words: LlamaVocabulary, batch: Batch, *, still: bool = False) -> Tensor:
    """The one sequence of ids that a language model reads."""
    context, dynamics, actions, _ = batch
    bins = words.actions + discretise(actions, 8)
    frames = torch.cat([bins, words.dynamics + dynamics], 2).flatten(1)
    prefix = words.context + context[:, : SHAPE.context_tokens]
    if still:
        prefix = torch.cat([prefix, words.dynamics + context[:, SHAPE.context_tokens :]], 1)
    return torch.cat([prefix, frames], 1)


@pytest.fixture
def full(batch_of: Callable[..., Batch]) -> Batch:
    context, dynamics, actions, mask = batch_of()
    return context, dynamics, actions, torch.ones_like(mask)


@pytest.mark.parametrize("still", [False, True])
def test_transformers_gives_the_same_logits(
    tmp_path: Path, model_of: Callable[..., WorldModel], full: Batch, still: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    model = model_of(**PLAIN, still_tokens=still)
    words = export_llama(model, tmp_path)
    llama = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        theirs = llama(ids(words, full, still=still)).logits
        ours = model(*full)
    layout = model.layout
    for frame in range(ours.shape[1]):
        places = torch.arange(layout.start(frame), layout.start(frame) + layout.frame)[layout.predicting]
        codes = slice(words.dynamics, words.dynamics + SHAPE.dynamics_codes)
        torch.testing.assert_close(theirs[:, places, codes], ours[:, frame], atol=1e-4, rtol=1e-4)


def test_what_transformers_writes_is_read(tmp_path: Path, full: Batch) -> None:
    transformers = pytest.importorskip("transformers")
    words = LlamaVocabulary.of_rlvr_world(SHAPE, 8)
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        vocab_size=words.size, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-6, initializer_range=0.3,
        bos_token_id=words.size - 2, eos_token_id=words.size - 1,
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(settings).eval()
    llama.save_pretrained(tmp_path)
    model = import_llama(tmp_path, SHAPE, TRAINING, bins=8)
    with torch.no_grad():
        theirs = llama(ids(words, full)).logits[:, -2, words.dynamics : words.dynamics + SHAPE.dynamics_codes]
        torch.testing.assert_close(theirs, model(*full)[:, -1, -1], atol=1e-4, rtol=1e-4)


def test_export_and_import_give_the_same_model(
    tmp_path: Path, model_of: Callable[..., WorldModel], full: Batch
) -> None:
    model = model_of(**PLAIN)
    export_llama(model, tmp_path)
    again = import_llama(tmp_path, SHAPE, model.spec.training, bins=8)
    assert again.spec == model.spec
    context, _, actions, mask = full
    seeds = torch.arange(len(context))
    assert torch.equal(*(generate(each, context, actions, mask, seeds) for each in (model, again)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"places": True}, "places"),
        ({"previous_codes": True}, "previous_codes"),
        ({"embedding": "digits"}, "digits"),
        ({"actions": {"kind": "slot"}}, "slot"),
    ],
)
def test_what_is_no_plain_llama_is_refused(
    tmp_path: Path, model_of: Callable[..., WorldModel], change: dict[str, Any], named: str
) -> None:
    with pytest.raises(LlamaError, match=named):
        export_llama(model_of(**PLAIN | change), tmp_path)
    assert not any(tmp_path.iterdir())


def edit(folder: Path, **changes: Any) -> None:
    value = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(value | changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"1234"), "cannot be read"),
        (lambda folder: edit(folder, model_type="gpt2"), "model_type"),
        (lambda folder: edit(folder, rope_parameters={"rope_type": "llama3"}), "rotary"),
        (lambda folder: edit(folder, num_hidden_layers=3), "layers.2.* is missing"),
        (lambda folder: edit(folder, num_hidden_layers=1), "no LLaMA has"),
        (lambda folder: edit(folder, intermediate_size=44), "its config says"),
        (lambda folder: edit(folder, head_dim=4), "head_dim"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, model_of: Callable[..., WorldModel], spoil: Callable[[Path], None], message: str
) -> None:
    export_llama(model_of(**PLAIN), tmp_path)
    spoil(tmp_path)
    with pytest.raises(LlamaError, match=message):
        import_llama(tmp_path, SHAPE, TRAINING, bins=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight.int(), "is of type torch.int32"),
        (lambda weight: weight.double(), "is of type torch.float64"),
        (lambda weight: weight * float("nan"), "values that are not finite"),
        (lambda weight: (weight + 1) / 0, "values that are not finite"),
    ],
)
def test_weights_that_no_model_has_are_refused(
    tmp_path: Path, model_of: Callable[..., WorldModel], change: Callable[[Tensor], Tensor], message: str
) -> None:
    export_llama(model_of(**PLAIN), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    save_file(tensors | {name: change(tensors[name])}, tmp_path / "model.safetensors")
    with pytest.raises(LlamaError, match=message):
        import_llama(tmp_path, SHAPE, TRAINING, bins=8)


def test_half_precision_is_read(tmp_path: Path, model_of: Callable[..., WorldModel]) -> None:
    model = model_of(**PLAIN)
    export_llama(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    found = import_llama(tmp_path, SHAPE, TRAINING, bins=8).state_dict()
    assert all(torch.equal(value.bfloat16().float(), found[name]) for name, value in model.state_dict().items())


HOSTILE: list[Any] = [None, [], {}, "x", -1, 0, 2**40, 1e300, True, [[]]]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_hostile_config_is_refused_or_changes_nothing(
    tmp_path: Path, model_of: Callable[..., WorldModel], value: Any
) -> None:
    export_llama(model_of(**PLAIN), tmp_path)
    config = (tmp_path / "config.json").read_text()
    for name in json.loads(config):
        (tmp_path / "config.json").write_text(config)
        edit(tmp_path, **{name: value})
        with suppress(LlamaError):
            import_llama(tmp_path, SHAPE, TRAINING, bins=8)
    for text in ("[" * 100_000, "[]", "3", ""):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(LlamaError, match=r"config\.json"):
            import_llama(tmp_path, SHAPE, TRAINING, bins=8)


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused(
    tmp_path: Path, model_of: Callable[..., WorldModel]
) -> None:
    export_llama(model_of(**PLAIN), tmp_path)
    with pytest.raises(LlamaError, match="need 97"):
        import_llama(tmp_path, SHAPE, TRAINING, bins=70)
