"""Importing RLVR-World's tokenizer: the keys of its files, and what its own classes computed with made-up weights.

rlvr_world_keys.json and the golden values come from benchmarks/rlvr_world_side.py, which runs the peer's code; the
weights are a function of their names, so that none need be kept.
"""

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from roboalign.checkpoint import CheckpointError
from roboalign.spec.weights import RlvrWorldInitSpec
from roboalign.tokenizer.compressive import CompressiveTokenizer
from roboalign.tokenizer.fsq import BoundedFSQ
from roboalign.tokenizer.init import initialize_tokenizer
from roboalign.tokenizer.interface import Tokenizer
from roboalign.tokenizer.model import build_tokenizer
from roboalign.tokenizer.rlvr_world import CONFIG, WEIGHTS
from roboalign.tokenizer.spec import TokenizerSpec

SHAPES: dict[str, list[int]] = json.loads((Path(__file__).parent / "rlvr_world_keys.json").read_text())
CONFIG_JSON: dict[str, Any] = {
    "_class_name": "CompressiveVQModelFSQ", "block_out_channels": [32, 64], "layers_per_block": 1, "latent_channels": 8,
    "mid_block_add_attention": False, "norm_num_groups": 32, "max_att_resolution": 32, "resolution": 64,
    "patch_size": 4, "vq_fsq_levels": 12, "dyn_fsq_levels": 12, "context_length": 1,
}  # fmt: skip


CONTEXT = [38, 3245, 4147, 3281, 2224, 3106, 3281, 4059, 3106, 2223, 3281, 3280, 4365, 3280]
DYNAMICS = [
    [349, 1749, 4062, 1573, 3503, 3493, 1797, 2271, 2806],
    [4340, 4228, 4347, 696, 4025, 1219, 3676, 174, 6],
    [4069, 4334, 4368, 137, 13, 2440, 1754, 1572, 489],
]
DECODED = [
    [-0.16166, -0.05095],
    [-1.20853, 0.41716],
    [-0.18518, 0.69303],
    [-0.28278, -0.28249],
]
"""Of the peer's classes: every 97th context token and every 9th dynamics token of each frame, and the second colour of
the context frame and of each later frame at (5, 7) and (40, 66), not bounded."""


def spec(**changes: Any) -> TokenizerSpec:
    return TokenizerSpec.model_validate(
        {
            "height": 64, "width": 80, "widths": [32, 64], "blocks": 1, "context_grid": [32, 40],
            "dynamics_grid": [8, 10], "architecture": {"kind": "compressive", "latent_channels": 8},
            "training": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3},
        }
        | changes
    )  # fmt: skip


def weight(key: str, shape: list[int]) -> Tensor:
    """As benchmarks/rlvr_world_side.py makes them up."""
    count = int(np.prod(shape))
    numbers = (np.arange(count, dtype=np.uint64) * 2_654_435_761 + zlib.crc32(key.encode())) % 2**32
    values = numbers / 2**31 - 1
    if len(shape) == 1:
        values = values * 0.1 + ("norm" in key and key.endswith("weight"))
    else:
        values = values * (0.1 if key.endswith("pos_emb") else np.sqrt(3 * shape[0] / count))
        values = values * (6 if key.startswith("quant_") else 1)
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def video(count: int) -> Tensor:
    """As benchmarks/rlvr_world_side.py makes it up."""
    t, c, y, x = np.ogrid[0:count, 0:3, 0:64, 0:80]
    waves = np.sin(0.37 * x + 0.5 * t + c) * np.cos(0.21 * y - 0.3 * t) + np.sin(0.05 * x * (1 + c) - 0.9 * t)
    return torch.from_numpy((0.5 + 0.25 * waves).astype(np.float32))[None]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the published layout."""
    folder = tmp_path_factory.mktemp("published")
    (folder / CONFIG).write_text(json.dumps(CONFIG_JSON))
    save_file({key: weight(key, shape) for key, shape in SHAPES.items()}, str(folder / WEIGHTS))
    return folder


def imported(folder: Path, scratch: Path, **changes: Any) -> tuple[Tokenizer, str]:
    model = build_tokenizer(spec(**changes))
    init = RlvrWorldInitSpec(kind="rlvr_world", uri=str(folder))
    return model.eval(), initialize_tokenizer(model, init, scratch)


def test_an_imported_tokenizer_computes_what_the_peers_classes_compute(published: Path, tmp_path: Path) -> None:
    model, said = imported(published, tmp_path)
    assert hashlib.sha256((published / WEIGHTS).read_bytes()).hexdigest() in said
    frames = video(3)
    with torch.no_grad():
        context = model.encode_context(frames[:, 0])
        dynamics = model.encode(context, frames)
        shown = model.decode(context, dynamics)
        plain_context, plain = model(frames[:, 0], frames)
    assert context.tokens[0, :1280:97].tolist() == CONTEXT
    assert dynamics[0, :, ::9].tolist() == DYNAMICS
    assert torch.equal(context.tokens[:, 1280:], dynamics[:, 0])
    at = (slice(None), 1, [5, 40], [7, 66])
    torch.testing.assert_close(plain_context[0][at[1:]], torch.tensor(DECODED[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(plain[0][at], torch.tensor(DECODED[1:]), atol=1e-4, rtol=0)
    torch.testing.assert_close(plain.clamp(0, 1), shown, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.decode_context(context.tokens), plain_context.clamp(0, 1), atol=1e-4, rtol=0)


def change(name: str, edit: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = {key: weight(key, shape) for key, shape in SHAPES.items()}
        edit(tensors)
        save_file(tensors, str(folder / WEIGHTS))

    spoil.__name__ = name
    return spoil


KEY = "cond_encoder.cross_att_blocks.1.att.in_proj_bias"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("missing", lambda t: t.pop(KEY)), f"{WEIGHTS}: the weight {KEY} is missing"),
        (change("shape", lambda t: t.update({KEY: torch.zeros(3)})), rf"{KEY} is \(3,\), a model of this spec has"),
        (change("extra", lambda t: t.update(more=torch.zeros(1))), "the weight more has no place"),
        (change("nan", lambda t: t[KEY].fill_(float("nan"))), f"the weight {KEY} holds NaN"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"12345678"), "cannot be read"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"holds no {WEIGHTS}; correct `uri`"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "is not the config of a tokenizer"),
        (
            lambda folder: (folder / CONFIG).write_text(json.dumps(CONFIG_JSON | {"layers_per_block": 2})),
            r"tokenizer\.blocks is 1, the published tokenizer has 2; change tokenizer\.blocks",
        ),
        (
            lambda folder: (folder / CONFIG).write_text(json.dumps(CONFIG_JSON | {"context_length": 2})),
            "its context_length is 2, but only 1 can be imported",
        ),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(
    published: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((published / name).read_bytes())
    spoil(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        imported(tmp_path, tmp_path / "scratch")
    assert "\n" not in str(caught.value)


def test_a_hash_that_differs_is_refused(published: Path, tmp_path: Path) -> None:
    init = RlvrWorldInitSpec(kind="rlvr_world", uri=str(published), sha256="0" * 64)
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: its sha256 is [0-9a-f]{{64}}, the spec says 0000"):
        initialize_tokenizer(build_tokenizer(spec()), init, tmp_path)


def test_another_architecture_is_told_to_change(published: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"set tokenizer\.architecture to \{kind: compressive\}"):
        imported(published, tmp_path, architecture={"kind": "dual_branch"})


def test_heads_that_the_weights_do_not_tell_are_checked(published: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.attention\.heads is 2, the published tokenizer has 4"):
        imported(published, tmp_path, attention={"heads": 2})


def test_a_remote_place_is_fetched_once(published: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in (CONFIG, WEIGHTS):
        memory.pipe(f"/peer/{name}", (published / name).read_bytes())
    model = build_tokenizer(spec())
    init = RlvrWorldInitSpec(kind="rlvr_world", uri="memory://peer")
    initialize_tokenizer(model, init, tmp_path)
    memory.rm("/peer", recursive=True)
    initialize_tokenizer(build_tokenizer(spec()), init, tmp_path)
    assert torch.equal(model.state_dict()["dynamics_in.weight"], weight("quant_linear.weight", [5, 128]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"widths": [32, 32, 64], "height": 128, "width": 160, "blocks": 2},
        {"architecture": {"kind": "compressive", "latent_channels": 4, "context_attention": True, "groups": 8}},
        {"attention": {"heads": 2, "max_height": 64}},
    ],
    ids=str,
)
def test_parameters_are_those_of_the_model(changes: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = CompressiveTokenizer(spec(**changes))
    assert spec(**changes).parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_released_size_has_its_parameters() -> None:
    released = spec(
        height=256, width=320, widths=[128, 256, 256, 512], blocks=2, architecture={"kind": "compressive"}
    )  # fmt: skip
    assert released.parameters == 129_448_016


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"patch": 2}, "patch"),
        ({"warps": 1}, "warps"),
        ({"context_grid": [16, 20]}, "context_grid"),
        ({"dynamics_grid": [8, 20]}, "dynamics_grid"),
        ({"widths": [40, 64]}, "widths.0"),
        ({"architecture": {"kind": "compressive", "groups": 8}, "widths": [32, 72]}, "widths"),
    ],
    ids=str,
)
def test_sizes_that_the_architecture_has_not_are_refused(changes: dict[str, Any], field: str) -> None:
    from pydantic import ValidationError

    from roboalign.spec.base import FieldError

    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    cause = caught.value.errors()[0]["ctx"]["error"]
    assert isinstance(cause, FieldError)
    assert cause.field == field


@pytest.mark.parametrize("levels", [(7, 5, 5, 5, 5), (8, 6, 5), (2, 3)])
def test_bounded_fsq_codes_and_values_are_two_views_of_one_thing(levels: tuple[int, ...]) -> None:
    fsq = BoundedFSQ(levels)
    every = torch.arange(fsq.codes)
    assert len(set(map(tuple, fsq.values(every).tolist()))) == fsq.codes
    latent = 3 * torch.randn(500, len(levels), generator=torch.Generator().manual_seed(0))
    latent.requires_grad_()
    quantized, codes = fsq(latent)
    torch.testing.assert_close(quantized, fsq.values(codes), atol=1e-6, rtol=0)
    assert fsq(torch.full((1, len(levels)), 50.0))[1].item() == fsq.codes - 1
    assert fsq(torch.full((1, len(levels)), -50.0))[1].item() == 0
    quantized.sum().backward()
    assert latent.grad is not None
    assert (latent.grad >= 0).all()  # far out, a tanh is flat
    assert (latent.grad > 0.1).any()
