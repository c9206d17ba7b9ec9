"""The student: a reward model with one transformer and a linear head over one network of the judge's state probe."""

from pathlib import Path

from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.reward.model import RewardModel, load_reward_model, save_reward_model
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.student.spec import StudentSpec


class Student(RewardModel):
    """Scores videos under instructions and actions, in one pass a clip."""

    def __init__(
        self,
        spec: StudentSpec,
        reward: RewardSpec,
        vocabulary: Vocabulary,
        action_width: int,
        eyes: Probe,
        outcome: OutcomeModel,
    ) -> None:
        super().__init__(
            spec.encoder, reward, vocabulary, action_width, eyes.first(), outcome, batch_size=spec.batch_size
        )
        self.spec = spec


def save_student(path: Path, student: Student, provenance: str) -> None:
    """Write the student with all that scoring needs."""
    save_reward_model(path, student, student.spec, provenance)


def load_student(path: Path) -> Student:
    """The student in a model file, frozen, in evaluation mode. Raises CheckpointError on a damaged or foreign file."""
    return load_reward_model(path, StudentSpec, Student)
