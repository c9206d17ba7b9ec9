import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from roboalign.hardware.spec import DeviceSpec, HardwareSpec
from roboalign.io import read_json, read_tsv, write_json, write_text
from roboalign.metrics.lpips import PUBLISHED
from roboalign.run import read_stage
from roboalign.store import ActionRange, EpisodeWriter
from roboalign.tokenizer.model import load_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Episode
from stages.tokenizer import main

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path, toy_episodes: list[Episode]) -> Path:
    """A checkout in which all stages before the tokenizer have run, with two sources of toy episodes."""
    for name in ("roboalign", "stages", "dvc.yaml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    listed = {}
    for source, episodes in (("toy", toy_episodes), ("other", [replace(e, source="other") for e in toy_episodes])):
        with EpisodeWriter(tmp_path / "artifacts/episodes" / source, fps=10.0) as writer:
            for episode in episodes:
                writer.add(episode)
        scale = ActionRange.over([episode.actions for episode in episodes])
        listed[source] = {
            "folder": f"episodes/{source}",
            "episodes": len(episodes),
            "frames": sum(len(episode.frames) for episode in episodes),
            "action_low": scale.low,
            "action_high": scale.high,
        }
    write_json(tmp_path / "artifacts/sources/index.json", {"sources": listed})
    tokenizer = yaml.safe_load((REPOSITORY / "specs/tokenizer/smoke.yaml").read_text())
    spec = TokenizerSpec.model_validate(tokenizer)
    write_text(tmp_path / "build/spec/tokenizer.yaml", yaml.safe_dump({"tokenizer": spec.model_dump(mode="json")}))
    hardware = HardwareSpec(device=DeviceSpec(threads=1)).model_dump(mode="json")
    write_text(tmp_path / "build/spec/hardware.yaml", yaml.safe_dump({"hardware": hardware}))
    choose(tmp_path, {"kind": "haarpsi"})
    return tmp_path


def choose(root: Path, perceptual: dict[str, str]) -> None:
    """Choose the perceptual distance."""
    write_text(root / "build/spec/evaluation.yaml", yaml.safe_dump({"evaluation": {"perceptual": perceptual}}))


def test_the_stage_writes_what_it_declares_and_repeats_itself(root: Path) -> None:
    files = ("artifacts/tokenizer/model.safetensors", "metrics/tokenizer.json", "plots/tokenizer.tsv")
    runs = []
    for _ in range(2):
        run = read_stage("tokenizer", root=root)
        main(run)
        run.clear_scratch()
        runs.append([(root / file).read_bytes() for file in files])
    assert runs[0] == runs[1]
    metrics = read_json(root / "metrics/tokenizer.json")
    keys = {"psnr", "ssim", "perceptual", "copy_context_psnr", "copy_last_psnr", "codes_used_fraction", "n"}
    assert keys <= metrics.keys()
    assert set(metrics["codes_used_fraction"]) == {"context", "dynamics"}
    assert set(metrics["by_source"]) == {"toy", "other"}
    assert metrics["n"] == 6
    assert [row["step"] for row in read_tsv(root / "plots/tokenizer.tsv")][-1] == "12"
    assert load_tokenizer(root / files[0]).spec.dynamics_tokens == 4
    assert read_json(root / "timings/tokenizer.json")["seconds"] > 0


def test_the_perceptual_distance_is_the_chosen_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), root / "weights.pth")
    choose(root, {"kind": "lpips", "backbone": "squeeze", "weights": str(root / "weights.pth")})
    with pytest.raises(ValueError, match=r"is not torchvision's squeezenet1_1-b8a52dc0\.pth"):
        main(read_stage("tokenizer", root=root))
    assert not (root / "metrics/tokenizer.json").exists()
    start = hashlib.sha256((root / "weights.pth").read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(PUBLISHED, "squeeze", (PUBLISHED["squeeze"][0], start))
    main(read_stage("tokenizer", root=root))
    assert read_json(root / "metrics/tokenizer.json")["perceptual_name"] == "LPIPS"
