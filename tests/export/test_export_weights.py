"""Exported folders: read again by `init` with the same bytes, by transformers, and without traces of the machine."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from roboalign.__main__ import main
from roboalign.checkpoint import save_model
from roboalign.export.card import numbers
from roboalign.io import write_json
from roboalign.spec.weights import CheckpointInitSpec
from roboalign.tokenizer.init import initialize_tokenizer
from roboalign.tokenizer.model import build_tokenizer
from roboalign.world_model.init import initialize_world_model
from roboalign.world_model.model import save_world_model
from tests.small_models import SHAPE, equal, tokenizer, world_model

PLAIN: dict[str, Any] = {
    "embedding": "table", "previous_codes": False, "places": False, "still_tokens": True,
    "actions": {"kind": "tokens", "bins": 8, "width": 3},
}  # fmt: skip


def export(root: Path, part: str, folder: Path) -> int:
    return main(["--root", str(root), "export", part, str(folder)])


@pytest.mark.parametrize("fields", [{}, PLAIN], ids=["ours", "llama"])
def test_a_world_model_comes_back_with_the_same_bytes(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = tmp_path / "artifacts/world_model/model.safetensors"
    first = world_model(0, **fields)
    save_world_model(path, first, "x")
    assert export(tmp_path, "world_model", tmp_path / "one") == 0
    second = world_model(1, **fields)
    init = CheckpointInitSpec(kind="checkpoint", uri=str(tmp_path / "one"))
    initialize_world_model(second, init, tmp_path / "scratch")
    assert equal(first, second)
    save_world_model(path, second, "x")
    assert export(tmp_path, "world_model", tmp_path / "two") == 0
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_transformers_loads_an_exported_world_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    save_world_model(tmp_path / "artifacts/rl/model.safetensors", world_model(0, **PLAIN), "x")
    assert export(tmp_path, "rl", tmp_path / "out") == 0
    llama = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert llama.config.vocab_size == SHAPE.dynamics_codes + SHAPE.context_codes + 8 + 2
    assert "library_name: transformers" in (tmp_path / "out/README.md").read_text()


def test_a_tokenizer_comes_back_and_its_card_tells_what_was_measured(tmp_path: Path) -> None:
    secret = "/home/somebody/weights"
    first = tokenizer(0, init={"kind": "checkpoint", "uri": secret})
    save_model(tmp_path / "artifacts/tokenizer/model.safetensors", first, first.spec, "a" * 32)
    write_json(
        tmp_path / "metrics/tokenizer.json",
        {"psnr": {"mean": 31.25, "low": 30.0, "high": 32.5, "n": 9}, "n": 9, "gates": {"codec": {"passed": True}}},
    )
    (tmp_path / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  tokenizer:\n    cmd: python -m stages.tokenizer\n    deps:\n"
        "    - path: artifacts/sources\n      hash: md5\n      md5: 0123456789abcdef0123456789abcdef.dir\n"
    )
    assert export(tmp_path, "tokenizer", tmp_path / "out") == 0
    card = (tmp_path / "out/README.md").read_text()
    for text in (
        "| psnr | 31.25 [30, 32.5] |", "| gates.codec.passed | yes |", "a" * 32, "height: 16",
        "| artifacts/sources | 0123456789abcdef0123456789abcdef.dir |",
    ):  # fmt: skip
        assert text in card
    for file in (tmp_path / "out").iterdir():
        assert secret.encode() not in file.read_bytes()
        assert str(tmp_path).encode() not in file.read_bytes()
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == "roboalign_tokenizer"
    torch.manual_seed(3)
    second = build_tokenizer(first.spec)
    initialize_tokenizer(second, CheckpointInitSpec(kind="checkpoint", uri=str(tmp_path / "out")), tmp_path)
    assert equal(first, second)


@pytest.mark.parametrize(("part", "stage"), [("student", "student"), ("held_out", "judge@held_out")])
def test_what_was_not_trained_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, stage: str
) -> None:
    assert export(tmp_path, part, tmp_path / "out") == 1
    assert f"is missing; run `dvc repro {stage}`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_numbers_of_a_metrics_file() -> None:
    found = dict(numbers({"a": {"b": 1.5, "c": [1, 2]}, "d": {"mean": 1.0, "low": 0.5, "high": 2.0}, "e": "LPIPS"}))
    assert found == {"a.b": "1.5", "d": "1 [0.5, 2]", "e": "LPIPS"}
