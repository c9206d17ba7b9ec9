"""The stage `policies`, and the command, on a real simulated robot with untrained models."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from roboalign.__main__ import main as command
from roboalign.evaluate_policy.command import is_clipped
from roboalign.hardware.spec import DeviceSpec, HardwareSpec
from roboalign.io import read_json, read_tsv
from roboalign.policies.spec import PoliciesSpec
from roboalign.reward.spec import RewardSpec
from roboalign.run import read_stage
from stages.policies import main
from tests.env.conftest import FETCH, record_source, write_sources
from tests.experiment_files import write_experiment
from tests.reward.reward_fakes import toy_judge

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the smallest experiment, in which all stages before `policies` have run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("roboalign", "stages", "specs", "dvc.yaml"):
        (folder / name).symlink_to(REPOSITORY / name)
    episodes = record_source(FETCH)
    write_experiment(folder, episodes)
    write_sources(folder, FETCH)
    reward = RewardSpec.model_validate(yaml.safe_load((REPOSITORY / "specs/reward/six.yaml").read_text()))
    toy_judge(episodes, reward).save(folder / "artifacts/judge/model.safetensors", "test")
    for name in ("judge", "held_out"):
        shutil.copytree(folder / "artifacts/probe/gold", folder / f"artifacts/probe/{name}")
    values = yaml.safe_load((REPOSITORY / "specs/policies/smoke.yaml").read_text())
    del values["policies"]["cloning"], values["compared_decodings"]
    spec = PoliciesSpec.model_validate({**values, "replays": False})
    sections: dict[str, Any] = {
        "policies": spec, "reward": reward, "hardware": HardwareSpec(device=DeviceSpec(threads=1)),
    }  # fmt: skip
    for name, section in sections.items():
        value = section if isinstance(section, dict) else section.model_dump(mode="json")
        (folder / f"build/spec/{name}.yaml").write_text(yaml.safe_dump({name: value}))
    torch.manual_seed(0)
    main(read_stage("policies", root=folder))
    return folder


def test_the_stage_evaluates_every_policy_in_every_world(root: Path) -> None:
    metrics = read_json(root / "metrics/policies.json")
    assert set(metrics["policies"]) == {"expert", "perceived", "servo", "constant", "planner"}
    for name, policy in metrics["policies"].items():
        assert policy["open_loop"] == (name == "expert")
        assert {"simulator", "supervised", "aligned"} <= set(policy)
    assert {"by_horizon", "by_decoding", "by_judge", "baselines", "optimism"} <= set(metrics)
    assert set(metrics["by_judge"]) == {"probe", "probe_any", "probability", "distance", "student", "judge"}
    rows = read_tsv(root / "artifacts/policies/success.tsv")
    assert {row["world"] for row in rows} >= {"simulator", "supervised", "aligned", "other_frames"}
    assert read_tsv(root / "plots/policies_training.tsv")[-1]["network"] == "perceived"


def test_the_worlds_begin_with_the_same_frame_and_go_on_differently(root: Path) -> None:
    clips = {
        world: dict(np.load(root / f"artifacts/policies/clips/{world}.npz"))
        for world in ("simulator", "supervised", "aligned")
    }
    first = {world: each["expert/fetch"][0] for world, each in clips.items()}
    np.testing.assert_array_equal(first["simulator"][0], first["supervised"][0])
    assert not np.array_equal(first["simulator"][1:], first["supervised"][1:])
    np.testing.assert_array_equal(first["supervised"], first["aligned"])  # both are the same untrained model here


def test_the_command_evaluates_declared_policies_and_a_function(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile_policy.py").write_text(
        "import numpy as np\ndef act(images, instructions): return np.full((len(images), 4), np.nan)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--source", "fetch", "--world", "supervised", "--split", "train", "--episodes", "2", "--horizon", "2"]

    def evaluate(policy: str, *more: str) -> int:
        return command(["--root", str(root), "evaluate-policy", policy, *options, *more])

    sheet = tmp_path / "frames.png"
    for name in ("perceived", "servo", "planner"):
        assert evaluate(f"smoke/{name}", "--out", str(sheet)) == 0
        line = rf"smoke/{name} on fetch in supervised: success [\d.]+ \[[\d.]+, [\d.]+\] of 2 train episodes, 2 frames"
        assert re.search(line, capsys.readouterr().out)
    assert sheet.exists()
    assert evaluate("hostile_policy:act") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: policy hostile_policy:act, episode fetch/")
    assert "step 0: action 0 is nan" in error
    for name, message in {
        "smoke": "'smoke' does not name a policy; write module:function, ws://HOST:PORT or FILE/NAME",
        "smok/servo": "there is no specs/policies/smok.yaml; did you mean 'smoke'?",
        "smoke/serve": "specs/policies/smoke.yaml declares no policy serve; it has: expert, cloning, perceived",
        "smoke/expert": "smoke/expert is scripted",
        "smoke/cloning": "artifacts/policies/cloning.safetensors is missing",
    }.items():
        assert evaluate(name) != 0
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("episodes", "0"), ("horizon", "-1"), ("time-limit", "nan"), ("time-limit", "inf"), ("temperature", "-0.5"),
     ("temperature", "nan"), ("seed", "-1")],
)  # fmt: skip
def test_numbers_of_the_command_are_checked_before_anything_runs(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["evaluate-policy", "tiny/random", "--source", "fetch", f"--{option}={value}"]) == 2
    assert f"--{option} is {value}" in capsys.readouterr().err


def test_a_declared_server_is_clipped_if_its_spec_says_so() -> None:
    server = {"kind": "server", "url": "ws://localhost:8000"}
    spec = PoliciesSpec.model_validate(
        {"policies": {"clipped": {**server, "clip": True}, "strict": server, "random": {"kind": "random"}}}
    )
    assert [is_clipped(f"mine/{name}", spec) for name in ("clipped", "strict", "random")] == [True, False, False]
    assert not is_clipped("ws://localhost:8000", None)
