"""From a judge's spec to the judge."""

from typing import assert_never

from roboalign.judge.model import Judge
from roboalign.judge.spec import JudgeSpec, RegressionJudgeSpec, VlmJudgeSpec
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary


def build_judge(spec: JudgeSpec, reward: RewardSpec, instructions: list[str]) -> Judge:
    """An untrained judge that knows the words of `instructions`.

    Raises ValueError for the kind `vlm`, which this version can check and plan, but not train.
    """
    match spec:
        case RegressionJudgeSpec():
            return Judge(spec, reward, Vocabulary.of(instructions, spec.encoder.text.words))
        case VlmJudgeSpec():
            raise ValueError(
                "judge.kind is vlm: this version has no trainer for a vision-language judge; "
                "set it to regression (specs/judge/tiny.yaml), or train elsewhere and import the scores"
            )
        case _:
            assert_never(spec)
