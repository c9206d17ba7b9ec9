"""What other parts ask of the spec of a judge, whatever its kind."""

from roboalign.spec.base import Spec


class JudgeSpecBase(Spec):
    """Base of the kinds of judge."""

    @property
    def scores_faithfulness(self) -> bool:
        """Whether its FAITHFUL scores are numbers; a judge that is not shown the actions gives NaN."""
        return True

    @property
    def note(self) -> str:
        """What `plan` shows instead of a size, of a judge that is not a reward model."""
        return "the size of the model is not known here"
