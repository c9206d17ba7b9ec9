"""The whole experiment: one spec for each part, and the specs of the files that combine them.

Nothing below `stages/` takes an `Experiment`; it exists for the invariants between parts and for `plan`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, model_validator

from roboalign.bench.spec import BenchSpec
from roboalign.evaluation.spec import ComparisonSpec, EvaluationSpec
from roboalign.hardware.spec import HardwareSpec
from roboalign.judge.spec import JudgeSpec
from roboalign.policies.spec import PoliciesSpec
from roboalign.probe.spec import ProbesSpec
from roboalign.reward.spec import RewardSpec
from roboalign.rl.spec import RLSpec
from roboalign.rollout.spec import RolloutSpec
from roboalign.sources.spec import SourceSpec
from roboalign.spec.base import FieldError, Name, Spec, items
from roboalign.student.spec import StudentSpec
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.world_model.spec import WorldModelSpec

Sources = Annotated[dict[Name, SourceSpec], Field(min_length=1, max_length=64)]
"""The listed sources by name."""

KINDS: dict[str, Any] = {
    "sources": Sources,
    "reward": RewardSpec,
    "bench": BenchSpec,
    "tokenizer": TokenizerSpec,
    "world_model": WorldModelSpec,
    "probe": ProbesSpec,
    "judge": JudgeSpec,
    "held_out": JudgeSpec,
    "student": StudentSpec,
    "rl": RLSpec,
    "rollout": RolloutSpec,
    "evaluation": EvaluationSpec,
    "policies": PoliciesSpec,
    "hardware": HardwareSpec,
}
"""The spec class of each section, in the order in which sections are shown."""

PARTS = tuple(part for part in KINDS if part != "sources")
"""The parts that take exactly one variant; `sources` takes several."""

VARIANTS: dict[str, Any] = {**KINDS, "sources": SourceSpec}
"""The spec class of one file under specs/<part>/."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """All sections, resolved, each valid by itself."""

    sources: Mapping[str, SourceSpec]
    reward: RewardSpec
    bench: BenchSpec
    tokenizer: TokenizerSpec
    world_model: WorldModelSpec
    probe: ProbesSpec
    judge: JudgeSpec
    held_out: JudgeSpec
    student: StudentSpec
    rl: RLSpec
    rollout: RolloutSpec
    evaluation: EvaluationSpec
    policies: PoliciesSpec
    hardware: HardwareSpec


class VariantsSpec(Spec):
    """The variant of each part: the name of a file under specs/<part>/, or null for none."""

    reward: Name | None = None
    """A file under specs/reward/."""
    bench: Name | None = None
    """A file under specs/bench/."""
    tokenizer: Name | None = None
    """A file under specs/tokenizer/."""
    world_model: Name | None = None
    """A file under specs/world_model/."""
    probe: Name | None = None
    """A file under specs/probe/."""
    judge: Name | None = None
    """A file under specs/judge/."""
    held_out: Name | None = None
    """A file under specs/held_out/: the held-out judge."""
    student: Name | None = None
    """A file under specs/student/."""
    rl: Name | None = None
    """A file under specs/rl/."""
    rollout: Name | None = None
    """A file under specs/rollout/."""
    evaluation: Name | None = None
    """A file under specs/evaluation/."""
    policies: Name | None = None
    """A file under specs/policies/."""
    hardware: Name | None = None
    """A file under specs/hardware/."""


class UseSpec(VariantsSpec):
    """The experiment of params.yaml, and for each part another variant, or null for the experiment's."""

    experiment: Name
    """A file under specs/experiments/."""


Names = Annotated[tuple[Name, ...], items()]
"""Names of sources: files under specs/sources/."""

Values = dict[Annotated[str, Field(min_length=1, max_length=200)], Any]
"""Single values by dotted or nested keys: `rollout.horizon: 20` or `rollout: {horizon: 20}`."""


class ExperimentFileSpec(Spec):
    """A file under specs/experiments/: a complete combination of variants."""

    extends: Name | None = None
    """The experiment whose values this file overrides."""
    use: VariantsSpec = VariantsSpec()
    """The variant of each part. Every part must be named here or in an experiment that this one extends."""
    sources: Names | None = None
    """Names of files under specs/sources/. Required here or in an experiment that this one extends."""
    set: Values = Field(default={})
    """Single values that override the variants' values."""


class ParamsSpec(Spec):
    """params.yaml: the current experiment. DVC reads it, so `dvc exp run -S` can change any value in it."""

    use: UseSpec
    """The experiment, and variants that replace its choices."""
    sources: Names
    """Names of files under specs/sources/. Listed here because DVC expands one stage for each before anything runs."""
    set: Values = Field(default={})
    """Single values that override the experiment's values."""


class StudyRunSpec(Spec):
    """One run of a study: its differences from the experiment."""

    use: VariantsSpec = VariantsSpec()
    """Variants that replace the experiment's."""
    set: Values = Field(default={})
    """Single values that override the variants' values and those that the study sets for all runs."""


class StudySpec(Spec):
    """Runs of one experiment that answer one question. `python -m roboalign study NAME` queues them as DVC experiments
    and writes a table of their results."""

    question: Annotated[str, Field(min_length=1, max_length=300)]
    """The question that the study answers: the title of its table."""
    experiment: Name
    """The experiment that every run starts from: a file under specs/experiments/."""
    set: Values = Field(default={})
    """Single values for all runs, for example fewer decodings."""
    runs: Annotated[dict[Name, StudyRunSpec], Field(min_length=2, max_length=64)]
    """The runs by name."""
    reference: Name
    """The run that all others are compared with, paired by episode."""
    comparisons: Annotated[tuple[ComparisonSpec, ...], items()] = (
        ComparisonSpec(model="aligned.swr.sampled", against="supervised.swr.sampled"),
        ComparisonSpec(model="aligned.swr.greedy", against="supervised.swr.greedy"),
    )
    """The differences between clip sets that the table shows, one section of the table each."""
    scorers: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(gold|student|judge|held_out)(_faithful)?$")], ...], items()
    ] = ("gold_faithful", "held_out_faithful", "gold", "held_out")
    """The scorers whose total scores are compared."""
    pooled: bool = False
    """True if the runs differ in their seeds only: the table then shows their mean, with an interval over runs and
    episodes (hierarchical bootstrap)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reference not in self.runs:
            raise FieldError("reference", f"no run is named {self.reference}; name one of {', '.join(self.runs)}")
        return self


@cache
def adapter(kind: str) -> TypeAdapter[Any]:
    """The validator of a section (`rollout`), of one file of a part (`rollout/`), of an experiment (`experiments/`), of
    a study (`studies/`) or of params.yaml (`params`)."""
    files: dict[str, Any] = {"experiments/": ExperimentFileSpec, "studies/": StudySpec, "params": ParamsSpec}
    return TypeAdapter(files.get(kind) or (VARIANTS[kind[:-1]] if kind.endswith("/") else KINDS[kind]))
