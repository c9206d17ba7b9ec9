from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from roboalign.checkpoint import save_model
from roboalign.hardware.spec import DeviceSpec, HardwareSpec
from roboalign.io import read_json, write_json, write_text
from roboalign.probe.model import load_probe
from roboalign.probe.outcome import load_outcome_model
from roboalign.probe.spec import ProbeName, ProbesSpec
from roboalign.run import read_stage
from roboalign.store import ActionRange, EpisodeWriter
from roboalign.tokenizer.model import DualBranchTokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Episode
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import save_world_model, seeded_world_model
from roboalign.world_model.spec import WorldModelSpec
from stages.probe import main

REPOSITORY = Path(__file__).parents[2]


def shipped(part: str, kind: type[Any]) -> Any:
    return kind.model_validate(yaml.safe_load((REPOSITORY / f"specs/{part}/smoke.yaml").read_text()))


def checkout(root: Path, sources: dict[str, list[Episode]]) -> None:
    """A checkout in which all stages before the probe have run, tokenizer and world model untrained."""
    for name in ("roboalign", "stages", "dvc.yaml"):
        (root / name).symlink_to(REPOSITORY / name)
    listed = {}
    for source, episodes in sources.items():
        with EpisodeWriter(root / "artifacts/episodes" / source, fps=10.0) as writer:
            for episode in episodes:
                writer.add(replace(episode, source=source))
        scale = ActionRange.over([episode.actions for episode in episodes])
        listed[source] = {
            "folder": f"episodes/{source}",
            "episodes": len(episodes),
            "frames": sum(len(episode.frames) for episode in episodes),
            "action_low": scale.low,
            "action_high": scale.high,
        }
    write_json(root / "artifacts/sources/index.json", {"sources": listed})
    tokenizer, model = shipped("tokenizer", TokenizerSpec), shipped("world_model", WorldModelSpec)
    save_model(root / "artifacts/tokenizer/model.safetensors", DualBranchTokenizer(tokenizer), tokenizer, "t")
    world = seeded_world_model(model, TokenShape.of(tokenizer, 4), 0)
    save_world_model(root / "artifacts/world_model/model.safetensors", world, "w")
    spec = shipped("probe", ProbesSpec)
    write_text(root / "build/spec/probe.yaml", yaml.safe_dump({"probe": spec.model_dump(mode="json")}))
    hardware = HardwareSpec(device=DeviceSpec(threads=1)).model_dump(mode="json")
    write_text(root / "build/spec/hardware.yaml", yaml.safe_dump({"hardware": hardware}))


def stateless(episodes: list[Episode]) -> list[Episode]:
    """The same as a real robot's episodes: nobody recorded a state."""
    return [replace(episode, state=None, keypoints=None, policy="unknown") for episode in episodes]


def run(root: Path, name: ProbeName = "judge") -> dict[str, Any]:
    stage = read_stage("probe", name, root)
    main(stage)
    stage.clear_scratch()
    found: dict[str, Any] = read_json(root / f"metrics/probe/{name}.json")
    return found


def test_the_stage_covers_the_sources_with_states_and_repeats_itself(tmp_path: Path, seen: list[Episode]) -> None:
    checkout(tmp_path, {"seen": seen, "real": stateless(seen)})
    files = (
        "artifacts/probe/judge/model.safetensors",
        "artifacts/probe/judge/outcome.safetensors",
        "metrics/probe/judge.json",
        "plots/probe/judge.tsv",
    )
    runs = []
    for _ in range(2):
        metrics = run(tmp_path)
        runs.append([(tmp_path / file).read_bytes() for file in files])
    assert runs[0] == runs[1]
    assert metrics["sources"] == ["seen"]
    assert metrics["n"] == 4, "as many as the spec measures at most"
    assert set(metrics["by_source"]) == {"seen"}
    assert {"true", "reconstructed", "generated", "baselines"} <= set(metrics)
    assert metrics["reconstructed"]["object_cm"] != metrics["true"]["object_cm"]
    probe = load_probe(tmp_path / files[0])
    assert probe.tasks == (("seen", "place"), ("seen", "push"))
    assert np.isfinite(probe.states("seen", "push", seen[0].frames[None])).all()
    assert load_outcome_model(tmp_path / files[1]).action_width == 4
    assert {"gripper_cm", "gripper_cm_still", "object_cm"} <= set(metrics["outcome"])


def test_gold_needs_no_outcome_model_and_learns_from_another_part(tmp_path: Path, seen: list[Episode]) -> None:
    checkout(tmp_path, {"seen": seen})
    assert "outcome" not in run(tmp_path, "gold")
    assert not (tmp_path / "artifacts/probe/gold/outcome.safetensors").exists()
    run(tmp_path, "judge")
    gold, judge = (load_probe(tmp_path / f"artifacts/probe/{name}/model.safetensors") for name in ("gold", "judge"))
    assert gold.tasks == judge.tasks
    assert not np.array_equal(gold.scenes.means, judge.scenes.means), "other episodes, other means"


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_source_may_lack_a_split(tmp_path: Path, seen: list[Episode], split: str) -> None:
    only = [episode for episode in seen if episode.split == split]
    checkout(tmp_path, {"seen": only, "real": stateless(seen)})
    metrics = run(tmp_path)
    assert metrics["n"] == 0
    assert metrics["sources"] == (["seen"] if split == "train" else [])


def test_without_states_the_stage_writes_a_probe_that_covers_nothing(tmp_path: Path, seen: list[Episode]) -> None:
    checkout(tmp_path, {"real": stateless(seen)})
    metrics = run(tmp_path)
    assert metrics["n"] == 0
    assert metrics["sources"] == []
    assert load_probe(tmp_path / "artifacts/probe/judge/model.safetensors").tasks == ()
