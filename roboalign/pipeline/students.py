"""The student, distilled from the judge's scores of the bench."""

from pathlib import Path

import torch

from roboalign.bench.dataset import Scores
from roboalign.bench.pairs import Bench
from roboalign.hardware.spec import DeviceSpec
from roboalign.pipeline.judges import fit_reward_model, load_perception
from roboalign.reward.init import initial_vocabulary
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.run import Run
from roboalign.student.model import Student, load_student
from roboalign.student.spec import StudentSpec
from roboalign.training import fold_in


def load_student_to(path: Path, device: torch.device) -> Student:
    """The student in a file, on a device. Raises CheckpointError on a damaged or foreign file."""
    return load_student(path).to(device)


def train_student(
    run: Run,
    spec: StudentSpec,
    reward: RewardSpec,
    bench: Bench,
    taught: Scores,
    action_width: int,
    device: DeviceSpec,
) -> tuple[Student, float]:
    """The student trained on the bench's train split, and the share of its clips whose scenes it knows.

    `taught` (P, 2, D) are the judge's raw scores of all pairs of the bench.
    """
    eyes, outcome = load_perception(run, "judge")
    train = bench.filter(split="train")
    torch.manual_seed(fold_in(spec.training.seed, 0))
    texts = [bench.pairs[row].instruction for row in train]
    vocabulary = initial_vocabulary(spec, run.scratch) or Vocabulary.of(texts, spec.encoder.text.words)
    student = Student(spec, reward, vocabulary, action_width, eyes, outcome)
    known = fit_reward_model(run, student, spec, bench, train, taught[train], device, run.output("plots/student.tsv"))
    return student, known
