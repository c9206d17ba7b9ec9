"""Reference sets of a small experiment's bench: an installation agrees with its own, and differences are named."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from roboalign.__main__ import main
from roboalign.bench.build import build
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import BenchError, Pair, read_pairs, write_pairs
from roboalign.bench.spec import BenchSpec
from roboalign.io import write_text
from roboalign.reference import write as writing
from roboalign.reference.write import choose_reference
from roboalign.reward.spec import RewardSpec
from roboalign.store import Corpus
from roboalign.student.model import save_student
from roboalign.types import Episode, Float32, UInt8
from tests.experiment_files import write_experiment
from tests.reward.reward_fakes import toy_judge, toy_student

CLIPS = 20
SMALL = {"pairs": 90, "min_frames": 5, "max_frames": 12, "generated": {"frames": 4, "batch_size": 3}}
Capture = pytest.CaptureFixture[str]


def fading(first: UInt8, actions: Float32, masks: NDArray[np.bool_], seeds: NDArray[np.int64]) -> UInt8:
    """A world model that dims the first frame, by an amount that its seed sets."""
    steps = np.arange(1, actions.shape[1] + 1)[None, :, None, None, None]
    dimmed = first[:, None] * (1 - steps * (seeds % 3)[:, None, None, None, None] / 20)
    return np.asarray(dimmed, np.uint8)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, toy_episodes: list[Episode]) -> Path:
    """An experiment with a bench, an untrained judge and an untrained student."""
    root = tmp_path_factory.mktemp("experiment")
    write_experiment(root, toy_episodes, models=False)
    reward = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))
    spec = BenchSpec.model_validate(SMALL)
    for name, value in (("reward", reward), ("rubric", reward), ("bench", spec)):
        write_text(root / f"build/spec/{name}.yaml", yaml.safe_dump({name: value.model_dump(mode="json")}))
    corpus = Corpus.open(root / "artifacts/sources/index.json")
    labeller, models = PairLabeller.of(corpus, spec, reward), {"early": fading, "final": fading}
    pairs = build({"judge": labeller}, models, root / "artifacts/bench/generated", 10.0)["judge"]
    write_pairs(root / "artifacts/bench/pairs.parquet", pairs, reward.names)
    toy_judge(toy_episodes, reward).save(root / "artifacts/judge/model.safetensors", "test")
    save_student(root / "artifacts/student/model.safetensors", toy_student(toy_episodes, reward), "test")
    return root


@pytest.fixture(scope="module")
def written(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "reference"
    assert main(["--root", str(experiment), "bench", "export", str(folder), "--reference", str(CLIPS)]) == 0
    return folder


@pytest.fixture
def reference(written: Path, tmp_path: Path) -> Path:
    """A copy of the reference set, which a test may change."""
    return Path(shutil.copytree(written, tmp_path / "reference"))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the expected values."""
    document = read(folder)
    edit(document)
    (folder / "reference.json").write_text(json.dumps(document))


def read(folder: Path) -> dict[str, Any]:
    """The expected values."""
    document: dict[str, Any] = json.loads((folder / "reference.json").read_text())
    return document


def check(folder: Path, *options: str) -> int:
    """`bench check` far from the experiment."""
    return main(["--root", str(folder.parent), "bench", "check", str(folder), *options])


def test_an_installation_agrees_with_what_it_wrote(reference: Path, capsys: Capture) -> None:
    assert check(reference) == 0
    frames, labels, judge, student, verdict = capsys.readouterr().out.splitlines()
    assert frames == f"frames: {CLIPS} of {CLIPS} clips alike, largest difference 0, tolerance 1"
    recorded = sum(
        clip["label"] is not None for clip in json.loads((reference / "reference.json").read_text())["clips"]
    )
    assert 10 < recorded < CLIPS
    assert labels.startswith(f"labels: {recorded} of {recorded} clips alike, largest difference ")
    assert judge.startswith(f"judge: {CLIPS} of {CLIPS} clips alike")
    assert student.startswith(f"student: {CLIPS} of {CLIPS} clips alike")
    assert verdict == "this installation scores alike"


def test_the_clips_cover_origins_degradations_and_only_the_test_split(experiment: Path, reference: Path) -> None:
    document = read(reference)
    names = list(document["reward"]["dimensions"])
    chosen = read_pairs(reference / "bench/pairs.parquet", names)
    everything = [
        pair
        for pair in read_pairs(experiment / "artifacts/bench/pairs.parquet", names)
        if pair.split == "test" and pair.judged
    ]

    def groups(pairs: list[Pair]) -> Counter[tuple[str, str]]:
        return Counter((pair.origin, pair.degradation) for pair in pairs)

    assert groups(list(chosen)).keys() == groups(everything).keys()
    assert {pair.split for pair in chosen} == {"test"}
    assert len({pair.id for pair in chosen}) == CLIPS


def test_the_clips_that_differ_are_named_in_each_respect(reference: Path, capsys: Capture) -> None:
    def differ(document: dict[str, Any]) -> None:
        first, second, third, fourth = document["clips"][:4]
        first.update(digest="0" * 32, levels=[0.0] * len(first["levels"]))
        second.update(digest="0" * 32, levels=[0.0])
        third["scores"]["judge"]["absolute"][0] += 0.1
        fourth["scores"]["student"]["faithful"][5] -= 0.1
        for limits in document["limits"].values():
            limits.update({name: value * 10 for name, value in limits.items()})

    change(reference, differ)
    first, second, third, fourth = (clip["clip"] for clip in read(reference)["clips"][:4])
    assert check(reference) == 1
    frames, labels, judge, student, verdict = capsys.readouterr().out.splitlines()
    assert frames.startswith(f"frames: {CLIPS - 2} of {CLIPS} clips alike, largest difference inf, tolerance 1; ")
    assert frames.endswith(f"differing: {first}, {second}")
    assert "tolerance 0.001; differing: " in labels
    assert (
        judge
        == f"judge: {CLIPS - 1} of {CLIPS} clips alike, largest difference 0.1, tolerance 0.02; differing: {third}"
    )
    assert (
        student
        == f"student: {CLIPS - 1} of {CLIPS} clips alike, largest difference 0.1, tolerance 0.02; differing: {fourth}"
    )
    assert verdict == "this installation does NOT score alike"


def test_other_weights_are_told_from_other_scores(reference: Path, experiment: Path, capsys: Capture) -> None:
    shutil.copy(experiment / "artifacts/student/model.safetensors", reference / "models/judge/model.safetensors")
    shutil.rmtree(reference / "models/student")
    assert check(reference) == 1
    out = capsys.readouterr().out
    assert "judge/model.safetensors is not the checkpoint of the reference set" in out
    assert "student/model.safetensors is missing" in out


def test_large_checkpoints_are_not_copied(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(writing, "MODEL_BYTES", 1000)
    folder = tmp_path / "few"
    assert main(["--root", str(experiment), "bench", "export", str(folder), "--reference", "2"]) == 0
    assert not (folder / "models").exists()
    assert check(folder, "--models", str(experiment / "artifacts")) == 0


def test_a_damaged_set_is_an_error_that_names_file_and_field(reference: Path, capsys: Capture) -> None:
    change(reference, lambda document: document.update(schema_version=2))
    assert check(reference) == 1
    assert "reference.json: schema_version: Input should be 1" in capsys.readouterr().err
    change(reference, lambda document: document.update(schema_version=1, clips=document["clips"][1:]))
    assert check(reference) == 1
    assert "its clips are not those of bench/pairs.parquet" in capsys.readouterr().err


def test_arguments_that_make_no_set_are_refused(experiment: Path, reference: Path, capsys: Capture) -> None:
    command = ["--root", str(experiment), "bench", "export"]
    assert main([*command, str(reference), "--reference", "3"]) == 2
    assert "exists; remove it, or name another folder" in capsys.readouterr().err
    assert main([*command, str(reference.parent / "new"), "--reference", "0"]) == 2
    assert "--reference is 0; give 1 or more" in capsys.readouterr().err
    with pytest.raises(BenchError, match="--reference is 5, but the test split has 0 different clips"):
        choose_reference([], 5)
