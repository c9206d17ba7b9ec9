"""One small extension of each kind."""

from extension import Extension
from source_extensions import READER, SIMULATOR

DECODING = Extension(
    file="roboalign/rollout/swr_mean.py",
    code='''
"""SWR whose fresh contexts are the mean of the last and the first frame."""

from torch import Tensor

from roboalign.rollout.interfaces import ContextT, StateT
from roboalign.rollout.swr import SwrDecoder


class MeanSwrDecoder(SwrDecoder[ContextT, StateT]):
    def _fresh_image(self, last: Tensor) -> Tensor:
        return (last + self.first_frame) / 2
''',
    spec_file="roboalign/rollout/spec.py",
    union="FixedDecodingSpec",
    spec='''
class MeanSwrSpec(WindowedSpec):
    """As `swr`, but the fresh context is the mean of the last and the first frame."""

    kind: Literal["swr_mean"] = "swr_mean"
    """The decoding."""
''',
    builder_file="roboalign/rollout/build.py",
    imports="""
from roboalign.rollout.spec import MeanSwrSpec
from roboalign.rollout.swr_mean import MeanSwrDecoder
""",
    branches={
        "build_decoder": """
        case MeanSwrSpec():
            return MeanSwrDecoder(tokenizer, sampler, start, spec.window)
"""
    },
    edits=(
        ("specs/rollout/w6.yaml", "  kv_window: {", "  mean5: {kind: swr_mean, window: 5}\n  kv_window: {"),
        ("specs/rollout/w6.yaml", ", kv_window, true_refresh]", ", mean5, kv_window, true_refresh]"),
    ),
    part="""
import torch
from roboalign.rollout.prompt import Prompt
from roboalign.rollout.rollout import rollout
from roboalign.rollout.suite import rollout_sets
from tests.rollout.rollout_fakes import ToySampler, ToyTokenizer, level, picture

assert "supervised.mean5.greedy" in [one.name for one in rollout_sets(experiment.rollout)]
frames, mask = picture(torch.tensor([100])), torch.ones(1, 1, dtype=torch.bool)
prompt = Prompt(frames, torch.full((1, 10, 1), 0.01), mask, torch.tensor([3]))
result = rollout(experiment.rollout.decodings["mean5"], ToyTokenizer(), ToySampler(), prompt)
print("levels", *level(result.frames)[0].tolist(), "peak", result.peak_sequence)
""",
    # Five frames of +10 from level 100, then five from the mean of 100 and 150.
    printed="levels 100 110 120 130 140 150 135 145 155 165 175 peak 11",
)

REWARD = Extension(
    file="roboalign/reward/smoothness.py",
    code='''
"""A reward for videos without flicker."""

from torch import Tensor

from roboalign.reward.rewards import Rollouts


def smoothness(rollouts: Rollouts) -> Tensor:
    """Minus the mean squared change of the change from frame to frame."""
    return -rollouts.videos.diff(n=2, dim=1).square().mean((1, 2, 3, 4))
''',
    spec_file="roboalign/reward/spec.py",
    union="SingleSignal",
    spec='''
class SmoothnessSignal(SignalBase):
    """Minus the mean squared change of the change from frame to frame."""

    kind: Literal["smoothness"]
''',
    builder_file="roboalign/reward/build.py",
    imports="""
from roboalign.reward.smoothness import smoothness
from roboalign.reward.spec import SmoothnessSignal
""",
    branches={
        "build_reward": """
        case SmoothnessSignal():
            return smoothness
"""
    },
    specs={
        "specs/rl/smooth.yaml": """
extends: tiny
reward: {kind: sum, terms: [{weight: 2.0, signal: {kind: smoothness}}, {weight: 20.0, signal: {kind: l1}}]}
distillation: null
"""
    },
    edits=(("params.yaml", "  rl: null", "  rl: smooth"),),
    part="""
import torch
from roboalign.reward.build import RewardModels, build_reward
from roboalign.reward.rewards import Rollouts

steps = torch.tensor([[0.0, 0.1, 0.2, 0.3], [0.0, 0.3, 0.0, 0.3]])
videos = steps[..., None, None, None].expand(-1, -1, 3, 8, 8)
rollouts = Rollouts(videos, ("push", "push"), torch.zeros(2, 3, 4), videos, (("toy", "push"),) * 2)
reward = build_reward(experiment.rl.reward, experiment.reward, RewardModels(None, None, None, None))
print("rewards", *[f"{value:.2f}" for value in reward(rollouts).tolist()])
""",
    # The second flickers by .6 twice: 2 * -.36; both are their own truth.
    printed="rewards -0.00 -0.72",
)

JUDGE = Extension(
    file="roboalign/judge/constant.py",
    code='''
"""The least that a judge can be: it gives every clip the mean scores of the bench."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from roboalign import checkpoint
from roboalign.judge.spec import ConstantJudgeSpec
from roboalign.reward.spec import RewardSpec


class ConstantJudge:
    """The same scores (2, D) for every clip."""

    def __init__(self, spec: ConstantJudgeSpec, reward: RewardSpec, scores: Tensor) -> None:
        self.spec, self.reward, self.scores = spec, reward, scores

    def sample(self, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
        """Raw scores (samples, B, 2, D)."""
        return self.scores.expand(self.spec.samples, len(videos), *self.scores.shape)

    def save(self, path: Path, provenance: str) -> None:
        """Write the scores."""
        spec, reward = self.spec.model_dump(mode="json"), self.reward.model_dump(mode="json")
        checkpoint.save(path, {"scores": self.scores}, spec=spec, reward=reward, provenance=provenance)
''',
    spec_file="roboalign/judge/spec.py",
    union="JudgeSpec",
    spec='''
class ConstantJudgeSpec(JudgeSpecBase):
    """Gives every clip the mean scores of the bench."""

    kind: Literal["constant"]
    samples: Annotated[int, Field(ge=1, le=100)] = 1
    """Equal samples."""
''',
    builder_file="roboalign/pipeline/judges.py",
    imports="""
from roboalign.judge.constant import ConstantJudge
from roboalign.judge.spec import ConstantJudgeSpec
""",
    branches={
        "train_judge": """
        case ConstantJudgeSpec():
            curves.write_text("step\\n", encoding="utf-8")
            return ConstantJudge(spec, reward, torch.from_numpy(bench.labels[train].mean(0)).float())
""",
        "load_judge": """
        case ConstantJudgeSpec():
            return ConstantJudge(spec, reward, checkpoint.load(path)[0]["scores"])
""",
    },
    specs={"specs/judge/constant.yaml": "kind: constant\nsamples: 2\n"},
    edits=(("params.yaml", "  judge: null", "  judge: constant"),),
    part="""
import torch
from roboalign.bench.pairs import Bench, Pair
from roboalign.pipeline.judges import load_judge, train_judge
from roboalign.run import Run
from roboalign.store import Corpus
from tests.conftest import toy_episode
from tests.reward.reward_fakes import toy_eyes, toy_outcome

episodes = [toy_episode(0), toy_episode(1)]
pairs = [
    Pair(str(n), e.id, "toy", "train", 0, 8, e.instruction, "real", "", 0.0, 0, "", -1, "", "", True, "states",
         (3.0 - n, 2, 1, 1, 1, 2), (1.0 + n, 2, 1, 1, 1, 2))
    for n, e in enumerate(episodes)
]
eyes, path = toy_eyes([]), Path("judge.safetensors")
run = Run("judge", "judge", {}, (), (Path("plots/judge.tsv"),))
device, bench = experiment.hardware.device, Bench(pairs, Corpus.of(episodes))
judge = train_judge(run, "judge", experiment.judge, experiment.reward, bench, eyes, toy_outcome(eyes), 4, device)
judge.save(path, "hash")
scores = load_judge(path).sample(torch.zeros(5, 8, 3, 32, 32), ["push"] * 5)
print(tuple(scores.shape), "absolute", scores[1, 4, 0].tolist(), "faithful", scores[1, 4, 1, 0].item())
""",
    printed="(2, 5, 2, 6) absolute [2.5, 2.0, 1.0, 1.0, 1.0, 2.0] faithful 1.5",
)

EXTENSIONS = {
    "decoding": DECODING,
    "reward": REWARD,
    "data source": READER,
    "simulator": SIMULATOR,
    "judge": JUDGE,
}
