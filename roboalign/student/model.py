"""The student: a reward model with one transformer and a linear head over one network of the judge's state probe."""

from pathlib import Path

from roboalign import checkpoint
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.reward.model import RewardModel, read_blueprint, save_reward_model
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.student.spec import StudentSpec
from roboalign.types import Json


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

    def build(metadata: dict[str, Json]) -> Student:
        spec, parts = checkpoint.read_spec(metadata, StudentSpec), read_blueprint(metadata)
        return Student(spec, parts.reward, parts.vocabulary, parts.action_width, parts.eyes, parts.outcome)

    return checkpoint.load_model(path, build).requires_grad_(False).eval()
