"""The regression judge: a visual-text encoder and one small head a dimension, sampled several times for each clip."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from roboalign import checkpoint
from roboalign.judge.spec import RegressionJudgeSpec
from roboalign.reward.dimensions import denormalise
from roboalign.reward.encoder import VisualTextEncoder
from roboalign.reward.frames import positions, profile
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary


class Judge(nn.Module):
    """Scores videos under instructions; a `Scorer`."""

    def __init__(self, spec: RegressionJudgeSpec, reward: RewardSpec, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.spec, self.reward, self.vocabulary = spec, reward, vocabulary
        self.encoder = VisualTextEncoder(spec.encoder, len(vocabulary))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(spec.encoder.width, spec.head), nn.GELU(), nn.Linear(spec.head, 1))
            for _ in reward.dimensions
        )

    def shares(self, features: Tensor) -> Tensor:
        """Clip features (B, width) to shares of full marks (B, D), not yet kept within [0, 1].

        A sigmoid here would saturate: most labels are full marks, and the rest would then hardly be learned.
        """
        return torch.cat([head(features) for head in self.heads], dim=1) + 0.5

    def regress(self, videos: Tensor, lengths: Tensor, indices: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Shares of full marks (B, D) and heat maps, with gradients. See VisualTextEncoder.forward."""
        features, heat = self.encoder(videos, lengths, indices, words)
        return self.shares(features), heat

    @torch.no_grad()
    def sample(self, videos: Tensor, instructions: Sequence[str], samples: int) -> Tensor:
        """Raw scores (samples, B, D) of clips (B, T, 3, H, W), in evaluation mode.

        Each scoring shifts the frames and drops features at random, alike for every clip, so that a clip's scores
        depend on nothing else in the batch. `samples` = 1 looks at evenly spread frames and drops nothing.
        """
        device = self.encoder.summary.device
        rows = []
        for start in range(0, len(videos), self.spec.batch):
            part = videos[start : start + self.spec.batch].to(device)
            words = self.vocabulary.encode(instructions[start : start + self.spec.batch]).to(device)
            lengths = torch.full((len(part),), part.shape[1], device=device)
            motion = profile(part, lengths)
            scores = []
            for number in range(samples):
                generator = None
                if samples > 1:
                    generator = torch.Generator().manual_seed(self.spec.sample_seed * 1000 + number)
                frames, _ = self.encoder.frames(part, lengths, positions(lengths, self.spec.encoder.frames, generator))
                if generator is not None:
                    kept = torch.rand(frames.shape[1:], generator=generator) >= self.spec.sample_dropout
                    frames = frames * kept.to(device) / (1 - self.spec.sample_dropout)
                scores.append(
                    denormalise(self.shares(self.encoder.join(frames, motion, words)).clamp(0, 1), self.reward)
                )
            rows.append(torch.stack(scores))
        return torch.cat(rows, dim=1)

    def forward(self, videos: Tensor, instructions: Sequence[str]) -> Tensor:
        """The mean raw scores (B, D) of clips (B, T, 3, H, W) over `spec.samples` scorings, without gradients."""
        return self.sample(videos, instructions, self.spec.samples).mean(0)


def save_judge(path: Path, judge: Judge, provenance: str) -> None:
    """Write the judge with its spec, the reward's dimensions and the vocabulary."""
    checkpoint.save_model(
        path,
        judge,
        judge.spec,
        provenance,
        reward=judge.reward.model_dump(mode="json"),
        vocabulary={"known": list(judge.vocabulary.known), "length": judge.vocabulary.length},
    )


def load_judge(path: Path) -> Judge:
    """The judge in a model file, frozen, in evaluation mode. Raises CheckpointError on a damaged or foreign file."""
    spec = checkpoint.load_spec(path, RegressionJudgeSpec)
    tensors, metadata = checkpoint.load(path)
    reward = RewardSpec.model_validate_json(json.dumps(metadata["reward"]))
    words = metadata["vocabulary"]
    judge = Judge(spec, reward, Vocabulary(tuple(words["known"]), int(words["length"])))
    judge.load_state_dict(tensors)
    return judge.requires_grad_(False).eval()
