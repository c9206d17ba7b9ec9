"""The stages of tokenizer and world model with imported weights and no steps: what comes out is what went in."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from roboalign.checkpoint import CheckpointError, save_model
from roboalign.hardware.spec import DeviceSpec, HardwareSpec
from roboalign.io import read_json, write_json, write_text
from roboalign.run import read_stage
from roboalign.sources.index import entry
from roboalign.store import EpisodeWriter
from roboalign.tokenizer.model import build_tokenizer, load_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Episode
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import load_world_model, save_world_model, seeded_world_model
from roboalign.world_model.spec import WorldModelSpec
from stages import tokenizer as tokenizer_stage
from stages import tokens as tokens_stage
from stages import world_model as world_model_stage
from tests.small_models import equal

REPOSITORY = Path(__file__).parents[1]


def section(root: Path, name: str, value: object) -> None:
    write_text(root / f"build/spec/{name}.yaml", yaml.safe_dump({name: value}))


@pytest.fixture
def root(tmp_path: Path, toy_episodes: list[Episode]) -> Path:
    """A checkout in which the sources are ready, with specs that import what lies in `published`."""
    for name in ("roboalign", "stages", "dvc.yaml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    folder = tmp_path / "artifacts/episodes/toy"
    with EpisodeWriter(folder, fps=10.0) as writer:
        for episode in (*toy_episodes[:2], *toy_episodes[-2:]):
            writer.add(episode)
    write_json(tmp_path / "artifacts/sources/index.json", {"sources": {"toy": entry(folder, tmp_path / "artifacts")}})
    section(tmp_path, "hardware", HardwareSpec(device=DeviceSpec(threads=1)).model_dump(mode="json"))
    section(tmp_path, "evaluation", {"perceptual": {"kind": "haarpsi"}})
    for part in ("tokenizer", "world_model"):
        fields = yaml.safe_load((REPOSITORY / f"specs/{part}/smoke.yaml").read_text())
        fields["training"]["steps"] = 0
        if part == "world_model":
            fields["segment"] = None
        fields["init"] = {"kind": "checkpoint", "uri": str(tmp_path / f"published/{part}")}
        spec = (TokenizerSpec if part == "tokenizer" else WorldModelSpec).model_validate(fields)
        section(tmp_path, part, json.loads(spec.model_dump_json()))
    return tmp_path


def test_imported_parts_pass_through_their_stages(root: Path) -> None:
    specs = {
        part: yaml.safe_load((root / f"build/spec/{part}.yaml").read_text())[part]
        for part in ("tokenizer", "world_model")
    }
    torch.manual_seed(5)
    tokenizer = build_tokenizer(TokenizerSpec.model_validate(specs["tokenizer"]))
    with pytest.raises(CheckpointError, match=r"published/tokenizer holds no model\.safetensors"):
        tokenizer_stage.main(read_stage("tokenizer", root=root))
    save_model(root / "published/tokenizer/model.safetensors", tokenizer, tokenizer.spec, "x")
    tokenizer_stage.main(read_stage("tokenizer", root=root))
    assert equal(load_tokenizer(root / "artifacts/tokenizer/model.safetensors"), tokenizer)
    assert read_json(root / "metrics/tokenizer.json")["n"] == 2
    model = seeded_world_model(WorldModelSpec.model_validate(specs["world_model"]), TokenShape.of(tokenizer.spec, 4), 5)
    save_world_model(root / "published/world_model/model.safetensors", model, "x")
    tokens_stage.main(read_stage("tokens", root=root))
    world_model_stage.main(read_stage("world_model", root=root))
    for name in ("model", "early"):
        assert equal(load_world_model(root / f"artifacts/world_model/{name}.safetensors"), model)
    assert read_json(root / "metrics/world_model.json")["n"] == 2
    for part in ("tokenizer", "world_model"):
        assert (root / f"plots/{part}.tsv").read_text() == "step\n"
