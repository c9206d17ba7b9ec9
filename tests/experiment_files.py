"""The files of a finished experiment: recorded episodes with untrained models of a few thousand weights."""

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from roboalign import checkpoint
from roboalign.io import write_json
from roboalign.probe.model import save_probe
from roboalign.reward.spec import RewardSpec
from roboalign.sources.index import entry
from roboalign.store import EpisodeWriter
from roboalign.student.model import save_student
from roboalign.tokenizer.model import DualBranchTokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Episode
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import save_world_model, seeded_world_model
from roboalign.world_model.spec import WorldModelSpec
from tests.reward.reward_fakes import toy_eyes, toy_student

SPECS = Path(__file__).parents[1] / "specs"


def write_experiment(root: Path, episodes: Sequence[Episode], *, models: bool = True) -> None:
    """Write the store of the episodes of one source and the section `rollout`; with `models`, also tokenizer, world
    models, gold probe and student."""
    source = episodes[0].source
    with EpisodeWriter(root / f"artifacts/episodes/{source}", fps=10) as writer:
        for episode in episodes:
            writer.add(episode)
    listed = {source: entry(root / f"artifacts/episodes/{source}", root / "artifacts")}
    write_json(root / "artifacts/sources/index.json", {"sources": listed})
    rollout = yaml.safe_load((SPECS / "rollout/smoke.yaml").read_text())
    rollout["decodings"] |= {"both": {"kind": "swr_two_contexts", "window": 3}}
    (root / "build/spec").mkdir(parents=True)
    (root / "build/spec/rollout.yaml").write_text(yaml.safe_dump({"rollout": rollout}, sort_keys=False))
    if not models:
        return
    spec = TokenizerSpec.model_validate(yaml.safe_load((SPECS / "tokenizer/smoke.yaml").read_text()))
    torch.manual_seed(0)
    checkpoint.save_model(root / "artifacts/tokenizer/model.safetensors", DualBranchTokenizer(spec), spec, "test")
    values = yaml.safe_load((SPECS / "world_model/smoke.yaml").read_text())
    model = seeded_world_model(WorldModelSpec.model_validate(values), TokenShape.of(spec, 4), 0)
    for folder in ("world_model", "rl"):
        save_world_model(root / f"artifacts/{folder}/model.safetensors", model, "test")
    reward = RewardSpec.model_validate(yaml.safe_load((SPECS / "reward/six.yaml").read_text()))
    save_probe(root / "artifacts/probe/gold/model.safetensors", toy_eyes(episodes), "test")
    save_student(root / "artifacts/student/model.safetensors", toy_student(episodes, reward), "test")
