"""The regression judge: an ensemble of reward models, whose members' scores are its distribution."""

from pathlib import Path

from roboalign.judge.spec import RegressionJudgeSpec
from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.reward.model import RewardModel, load_reward_model, save_reward_model
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary


class RegressionJudge(RewardModel):
    """Scores videos under instructions and actions; a `Scorer`."""

    def __init__(
        self,
        spec: RegressionJudgeSpec,
        reward: RewardSpec,
        vocabulary: Vocabulary,
        action_width: int,
        eyes: Probe,
        outcome: OutcomeModel,
    ) -> None:
        super().__init__(
            spec.encoder,
            reward,
            vocabulary,
            action_width,
            eyes,
            outcome,
            members=spec.members,
            head_width=spec.head,
            batch_size=spec.batch_size,
        )
        self.spec = spec

    def save(self, path: Path, provenance: str) -> None:
        """Write the judge with all that scoring needs."""
        save_reward_model(path, self, self.spec, provenance)


def load_regression_judge(path: Path) -> RegressionJudge:
    """The judge in a model file, frozen, in evaluation mode. Raises CheckpointError on a damaged or foreign file."""
    return load_reward_model(path, RegressionJudgeSpec, RegressionJudge)
