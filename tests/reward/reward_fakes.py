"""Small untrained reward models over an untrained probe of some episodes, and what they score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from roboalign.bench.build import build
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import Bench
from roboalign.bench.spec import BenchSpec
from roboalign.judge.model import RegressionJudge
from roboalign.judge.spec import RegressionJudgeSpec
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.probe.spec import OutcomeSpec, PerceptionSpec
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.store import Corpus, EpisodeStore
from roboalign.student.model import Student
from roboalign.student.spec import StudentSpec
from roboalign.types import Episode

TEXTS = ("push the yellow block to the red goal", "move the block to the red mark", "words that nobody said")
PERCEPTION = PerceptionSpec(widths=(8, 16), hidden_size=16, members=2)
SIZE = (32, 32)


def toy_eyes(episodes: Sequence[Episode]) -> Probe:
    """An untrained probe that knows the scenes of the episodes; of none, a probe that covers nothing."""
    torch.manual_seed(0)
    return Probe.of(PERCEPTION, episodes, SIZE).requires_grad_(False).eval()


def toy_outcome(eyes: Probe, width: int = 4) -> OutcomeModel:
    """An untrained outcome model, in which actions already matter."""
    torch.manual_seed(1)
    model = OutcomeModel(OutcomeSpec(hidden_size=8), len(eyes.tasks), width)
    torch.nn.init.normal_(model.move.weight, std=0.1)
    return model.requires_grad_(False).eval()


def smoke_spec(part: str, **changes: Any) -> dict[str, Any]:
    """The shipped smallest spec of a part, with other values in its sections."""
    value: dict[str, Any] = yaml.safe_load(Path(f"specs/{part}/smoke.yaml").read_text())
    for name, change in changes.items():
        value[name] = value.get(name, {}) | change if isinstance(change, dict) else change
    return value


def toy_judge(episodes: Sequence[Episode], reward: RewardSpec, width: int = 4, **changes: Any) -> RegressionJudge:
    """An untrained judge in training mode, from a fixed seed."""
    spec = RegressionJudgeSpec.model_validate(smoke_spec("judge", **changes))
    eyes, words = toy_eyes(episodes), Vocabulary.of(TEXTS[:2], spec.encoder.text.words)
    torch.manual_seed(2)
    return RegressionJudge(spec, reward, words, width, eyes, toy_outcome(eyes, width))


def toy_student(episodes: Sequence[Episode], reward: RewardSpec, **changes: Any) -> Student:
    """An untrained student in training mode, from a fixed seed."""
    spec = StudentSpec.model_validate(smoke_spec("student", **changes))
    eyes, words = toy_eyes(episodes), Vocabulary.of(TEXTS[:2], spec.encoder.text.words)
    torch.manual_seed(2)
    return Student(spec, reward, words, 4, eyes, toy_outcome(eyes))


def known_clips(episodes: Sequence[Episode], frames: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """The beginnings of episodes: videos (B, T, 3, H, W), uint8, and actions (B, T - 1, A)."""
    videos = np.stack([episode.frames[:frames] for episode in episodes]).transpose(0, 1, 4, 2, 3)
    actions = np.stack([episode.actions[: frames - 1] for episode in episodes])
    return torch.from_numpy(videos.copy()), torch.from_numpy(actions)


def unknown_clips(count: int = 3, frames: int = 7) -> torch.Tensor:
    """Noise, which is no scene of the toy's: videos (B, T, 3, H, W), uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, 3, *SIZE), generator=generator, dtype=torch.uint8)


def fading(first: Any, actions: Any, masks: Any, seeds: Any) -> Any:
    """A world model that dims the first frame, by an amount that its seed sets."""
    share = np.arange(1, actions.shape[1] + 1)[None] * (seeds % 5)[:, None] / 20
    return (first[:, None] * (1 - share[..., None, None, None])).astype(np.uint8)


def toy_bench(episodes: Sequence[Episode], reward: RewardSpec, folder: Path, pairs: int = 40) -> Bench:
    """A bench of the toy's episodes, with four groups of three rollouts to train on and two to test."""
    corpus = Corpus.of(list(episodes))
    groups = [
        {"split": "train", "prompts": 4, "size": 3, "greedy": 1, "frames": 4},
        {"split": "test", "prompts": 2, "size": 3, "frames": 4},
    ]
    spec = BenchSpec.model_validate({"pairs": pairs, "min_frames": 5, "max_frames": 12, "groups": groups})
    labeller = PairLabeller.of(corpus, spec, reward)
    models = {"final.ar.sampled": fading, "final.ar.greedy": fading}
    made = build({"judge": labeller}, models, folder / "generated", 10.0)["judge"]
    return Bench(made, corpus, EpisodeStore(folder / "generated"))
