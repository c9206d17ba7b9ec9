"""The student: a compact visual-text encoder with a linear head; one pass a clip."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from roboalign import checkpoint
from roboalign.reward.dimensions import denormalise
from roboalign.reward.encoder import VisualTextEncoder
from roboalign.reward.frames import positions
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.student.spec import StudentSpec


class Student(nn.Module):
    """Scores videos under instructions; a `Scorer`. Training it further goes through `distillation_loss`."""

    def __init__(self, spec: StudentSpec, reward: RewardSpec, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.spec, self.reward, self.vocabulary = spec, reward, vocabulary
        self.encoder = VisualTextEncoder(spec.encoder, len(vocabulary))
        self.head = nn.Linear(spec.encoder.width, len(reward.dimensions))
        nn.init.constant_(self.head.bias, 0.5)  # the middle of every range

    def regress(self, videos: Tensor, lengths: Tensor, indices: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised scores (B, D), not yet kept within [0, 1], and heat maps, with gradients.

        See VisualTextEncoder.forward.
        """
        features, heat = self.encoder(videos, lengths, indices, words)
        return self.head(features), heat

    @torch.no_grad()
    def forward(self, videos: Tensor, instructions: Sequence[str]) -> Tensor:
        """Raw scores (B, D) of clips (B, T, 3, H, W), uint8 or in [0, 1]; clips of any length."""
        device = self.head.bias.device
        rows = []
        for start in range(0, len(videos), self.spec.batch):
            part = videos[start : start + self.spec.batch].to(device)
            words = self.vocabulary.encode(instructions[start : start + self.spec.batch]).to(device)
            lengths = torch.full((len(part),), part.shape[1], device=device)
            shares, _ = self.regress(part, lengths, positions(lengths, self.spec.encoder.frames), words)
            rows.append(denormalise(shares.clamp(0, 1), self.reward))
        return torch.cat(rows)


def save_student(path: Path, student: Student, provenance: str) -> None:
    """Write the student with its spec, the reward's dimensions and the vocabulary."""
    checkpoint.save_model(
        path,
        student,
        student.spec,
        provenance,
        reward=student.reward.model_dump(mode="json"),
        vocabulary={"known": list(student.vocabulary.known), "length": student.vocabulary.length},
    )


def load_student(path: Path) -> Student:
    """The student in a model file, in evaluation mode. Raises CheckpointError on a damaged or foreign file."""
    spec = checkpoint.load_spec(path, StudentSpec)
    tensors, metadata = checkpoint.load(path)
    reward = RewardSpec.model_validate_json(json.dumps(metadata["reward"]))
    words = metadata["vocabulary"]
    student = Student(spec, reward, Vocabulary(tuple(words["known"]), int(words["length"])))
    student.load_state_dict(tensors)
    return student.eval()
