"""The properties that all kinds of judge specs have."""

from roboalign.spec.base import Spec


class JudgeSpecBase(Spec):
    """Base of the kinds of judge."""

    @property
    def scores_faithfulness(self) -> bool:
        """Whether its FAITHFUL scores are numbers; a judge that is not shown the actions gives NaN."""
        return True

    @property
    def note(self) -> str:
        """A remark that `plan` shows instead of a size, for judges that are not reward models."""
        return "the size of the model is not known here"
