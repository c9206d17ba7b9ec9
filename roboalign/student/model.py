"""The student: a reward model with one transformer, a linear head and small eyes of its own."""

from pathlib import Path

from roboalign import checkpoint
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.reward.model import RewardModel, load_weights, read_blueprint, save_reward_model
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
        super().__init__(spec.encoder, reward, vocabulary, action_width, eyes, outcome, batch_size=spec.batch_size)
        self.spec = spec

    @classmethod
    def over(
        cls,
        spec: StudentSpec,
        reward: RewardSpec,
        vocabulary: Vocabulary,
        action_width: int,
        teacher_eyes: Probe,
        outcome: OutcomeModel,
    ) -> "Student":
        """An untrained student that knows the scenes of the teacher's eyes (cameras, backgrounds, usual depths) and
        takes over their outcome model."""
        eyes = Probe(spec.perception, teacher_eyes.tasks, teacher_eyes.size)
        eyes.scenes.load_state_dict(teacher_eyes.scenes.state_dict())
        return cls(spec, reward, vocabulary, action_width, eyes, outcome)


def save_student(path: Path, student: Student, provenance: str) -> None:
    """Write the student with all that scoring needs."""
    save_reward_model(path, student, student.spec, provenance)


def load_student(path: Path) -> Student:
    """The student in a model file, frozen, in evaluation mode. Raises CheckpointError on a damaged or foreign file."""
    spec = checkpoint.load_spec(path, StudentSpec)
    found, tensors = read_blueprint(path)
    return load_weights(
        path, Student(spec, found.reward, found.vocabulary, found.action_width, found.eyes, found.outcome), tensors
    )
