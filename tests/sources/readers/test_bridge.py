"""The real sample of BridgeData V2 through the whole path: RLDS, store, tokens, scores."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from roboalign.hardware.spec import ProcessesSpec
from roboalign.reward.spec import RewardSpec
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import RawEpisode
from roboalign.sources.readers.rlds import Rlds
from roboalign.sources.readers.spec import RldsSpec
from roboalign.sources.shards import IngestReport, materialise
from roboalign.store import EpisodeStore
from roboalign.tokenizer.model import DualBranchTokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Float32
from tests.reward.reward_fakes import toy_judge

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT.parent / "shared/data/bridge_v2_sample"

pytestmark = pytest.mark.skipif(not SAMPLE.exists(), reason=f"the BridgeData V2 sample is not at {SAMPLE}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[IngestReport, EpisodeStore]:
    """The sample by the shipped spec, but for its place, its image size and its short episodes."""
    place = tmp_path_factory.mktemp("bridge")
    shipped = yaml.safe_load((ROOT / "specs/sources/bridge.yaml").read_text())
    changed = {"uri": str(SAMPLE), "image": {"height": 64, "width": 64}, "length": 10, "tolerance": 0.0}
    spec = RldsSpec.model_validate(shipped | changed)
    executor = ProcessesSpec(kind="processes", workers=1)
    report = materialise(spec, "bridge", place / "store", place / "scratch", place / "cache", executor, lambda *_: None)
    return report, EpisodeStore(place / "store")


@pytest.fixture(scope="module")
def videos(made: tuple[IngestReport, EpisodeStore]) -> torch.Tensor:
    """Four of the episodes, (4, 10, 3, 64, 64)."""
    frames = np.stack([made[1].frames(number) for number in range(4)])
    return torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255


def test_it_is_what_its_readme_says(made: tuple[IngestReport, EpisodeStore]) -> None:
    report, store = made
    assert (report.kept, report.frames, report.damaged, report.left_out) == (25, 250, (), ())
    assert store.fps == 5
    assert store.action_width == 7
    assert len({info.instruction for info in store.infos}) == 4
    for number, info in enumerate(store.infos):
        frames, actions = store.frames(number), store.actions(number)
        assert (info.length, info.policy, info.success) == (10, "unknown", None)
        assert frames.shape == (10, 64, 64, 3)
        assert frames.std() > 20  # a live camera, no blank one
        assert len(np.unique(frames.reshape(10, -1), axis=0)) > 5  # it moves
        assert actions.shape == (10, 7)
        assert np.isfinite(actions).all()
        # Displacements of a 5 Hz arm in metres and radians, and a gripper's opening.
        assert np.abs(actions[:, :6]).max() < 1
        assert ((actions[:, 6] >= 0) & (actions[:, 6] <= 1)).all()


@pytest.mark.parametrize(("camera", "live"), [("image_1", True), ("image_2", True), ("image_3", False)])
def test_its_other_cameras(camera: str, live: bool, tmp_path: Path) -> None:
    shipped = yaml.safe_load((ROOT / "specs/sources/bridge.yaml").read_text())
    spec = RldsSpec.model_validate(shipped | {"uri": str(SAMPLE), "camera": f"observation/{camera}"})
    reader = Rlds(spec, Files.at(spec.uri, {}, tmp_path))
    raw = next(reader.read(reader.parts()[0]))
    assert isinstance(raw, RawEpisode)
    assert (np.stack(list(raw.images(range(10)))).std() > 20) == live


def test_each_set_up_is_in_one_split(made: tuple[IngestReport, EpisodeStore]) -> None:
    infos = made[1].infos
    # The sample's four instructions were recorded in four sessions of one scene.
    scenes = {info.scene: info.instruction for info in infos}
    assert len(scenes) == 4
    assert len({(info.scene, info.split) for info in infos}) == 4
    assert {"train", "test"} <= {info.split for info in infos}


def test_a_tokenizer_takes_it(videos: torch.Tensor) -> None:
    torch.manual_seed(0)
    spec = {
        "height": 64, "width": 64, "patch": 4, "widths": [8, 16], "blocks": 1, "context_grid": [8, 8],
        "dynamics_grid": [4, 4], "context_levels": [5, 5], "dynamics_levels": [4, 5, 3], "warps": 1,
        "attention": {"heads": 2, "max_height": 4}, "training": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3},
    }  # fmt: skip
    model = DualBranchTokenizer(TokenizerSpec.model_validate(spec)).eval()
    with torch.no_grad():
        context = model.encode_context(videos[:, 0])
        tokens = model.encode(context, videos[:, 1:])
        assert tokens.shape == (4, 9, 16)
        assert len(torch.unique(tokens)) > 1
        assert model.decode(context, tokens).shape == (4, 9, 3, 64, 64)


def test_a_judge_scores_it(made: tuple[IngestReport, EpisodeStore], videos: torch.Tensor) -> None:
    torch.manual_seed(0)
    reward = RewardSpec.model_validate(yaml.safe_load((ROOT / "specs/reward/six.yaml").read_text()))
    words = [made[1].infos[number].instruction for number in range(4)]
    actions = torch.from_numpy(np.stack([made[1].actions(number)[:9] for number in range(4)]))
    judge = toy_judge([], reward, 7).eval()
    scores = judge(videos, words, actions.clamp(-1, 1))
    assert scores.shape == (4, 2, len(reward.dimensions))
    assert (scores >= 0).all()
    assert (scores <= torch.tensor(reward.max_scores)).all()
    assert len(torch.unique(scores, dim=0)) == 4


def test_a_stride_keeps_every_second_frame_and_adds_up_the_motion(
    made: tuple[IngestReport, EpisodeStore], tmp_path: Path
) -> None:
    shipped = yaml.safe_load((ROOT / "specs/sources/bridge.yaml").read_text())
    changed = {"uri": str(SAMPLE), "image": {"height": 64, "width": 64}, "length": 5, "stride": 2, "episodes": 3}
    spec = RldsSpec.model_validate(shipped | changed)
    executor = ProcessesSpec(kind="processes", workers=1)
    materialise(spec, "bridge", tmp_path / "s", tmp_path / "w", tmp_path / "c", executor, lambda *_: None)
    store = EpisodeStore(tmp_path / "s")
    assert len(store) == 3
    assert store.fps == 2.5
    for number in range(3):
        assert np.array_equal(store.frames(number), made[1].frames(number)[::2])
        summed: Float32 = made[1].actions(number).reshape(5, 2, 7).sum(1)[:, :6]
        assert np.allclose(store.actions(number)[:, :6], summed, atol=1e-6)
        # Of an absolute command the last one counts.
        assert np.array_equal(store.actions(number)[:, 6], made[1].actions(number)[1::2, 6])
