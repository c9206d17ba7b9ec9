"""The evaluation: metrics, scorers, comparisons, statistics and the thresholds of the gates.

Defaults are our choice unless a source is named.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from roboalign.metrics.frechet_spec import FrechetSpec
from roboalign.metrics.perceptual_spec import HaarPsiSpec, PerceptualSpec
from roboalign.rollout.spec import BOUND
from roboalign.spec.base import FieldError, Fraction, Name, Positive, Seed, Spec, items

ClipSet = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$", max_length=128)]
"""The name of a clip set of the rollout stage: `copy_last`, `supervised.swr.greedy`."""

Pattern = Annotated[str, Field(pattern=r"^[a-z0-9_.*]+$", max_length=128)]
"""A shell pattern of clip set names: `supervised.*`."""

ScorerName = Literal["student", "judge", "held_out"]
"""A scorer: the distilled student, the judge that labels its training data, or the held-out judge, which is not used in
any training."""

GOLD = "gold"
"""Name of the gold scorer, the rubric over states that the gold probe perceives."""

FAITHFUL = "_faithful"
"""Suffix of a scorer's name for its faithful scores: `gold_faithful`."""

TOTAL = "total"
"""The key of the sum over all dimensions."""


class ComparisonSpec(Spec):
    """A paired difference between two clip sets, with the same episodes and seeds."""

    model: ClipSet
    """The clip set that is expected to score higher."""
    against: ClipSet
    """The clip set that `model` is compared with."""


class StrongestBaselineSpec(Spec):
    """The choice of the strongest baseline, and the clip sets that are compared with it."""

    among: Annotated[tuple[Pattern, ...], items()] = ("copy_context", "supervised.*")
    """The baselines (docs/protocol.md). `copy_last` is not a baseline, because it uses true later frames."""
    leaving_out: Annotated[tuple[Pattern, ...], items(0)] = (f"*.{BOUND}*",)
    """Clip sets that match `among` but are not baselines, because they use true later frames."""
    models: Annotated[tuple[Pattern, ...], items()] = ("aligned.*",)
    """The clip sets that are compared with the strongest baseline."""
    scorer: ScorerName = "judge"
    """The scorer whose highest mean total makes a baseline the strongest (paper: the judge)."""


class ExternalSpec(Spec):
    """Results of another model: scores of its videos by this experiment's judges, or by another benchmark."""

    name: Name
    """The model's name; `external.<name>` in tables, comparisons and patterns."""
    scores: Annotated[str, Field(pattern=r"^external/[A-Za-z0-9_\-][A-Za-z0-9_.\-]*\.(json|csv)$", max_length=200)]
    """The file, in the folder `external/`, on which the stage depends. Outputs of `score --json` with the same `name`
    are scores of the same videos by different scorers."""
    format: Literal["scores", "worldmodelbench", "ewmbench"] = "scores"
    """`scores`: the output of `python -m roboalign score --json`; the model stands in all tables. `worldmodelbench`:
    WorldModelBench's `worldmodelbench_results.json`. `ewmbench`: EWMBench's `ewmbm_final_table.csv`. Results of other
    benchmarks have a table of their own."""

    @model_validator(mode="after")
    def _check_extension(self) -> "ExternalSpec":
        extension = ".csv" if self.format == "ewmbench" else ".json"
        if not self.scores.endswith(extension):
            raise FieldError("scores", f"{self.scores} must end in {extension} for the format {self.format}")
        return self


class GatesSpec(Spec):
    """Thresholds of the gates. Each gate is reported as passed, failed or not measured, with its values."""

    motion_ratio_low: Positive = 0.7
    """Minimum motion energy of aligned rollouts relative to the supervised model's (docs/protocol.md); frozen videos
    are below it."""
    motion_ratio_high: Positive = 1.3
    """Maximum motion energy of aligned rollouts relative to the supervised model's; flickering videos are above it."""
    motion: Annotated[tuple[ClipSet, ...], items()] = ("supervised.ar.greedy", "supervised.swr.greedy")
    """Clip sets whose motion energy relative to the true future must be between the same two thresholds."""
    student_gold_correlation: Fraction = 0.35
    """Minimum correlation of the student's faithful totals with gold within groups of rollouts of one prompt."""
    best_of: Annotated[int, Field(ge=2, le=16)] = 16
    """N for the best of N rollouts by the student, which must gain gold with an interval above 0; 2, 4, 8 or 16."""
    swr: ComparisonSpec = ComparisonSpec(model="supervised.swr.greedy", against="supervised.ar.greedy")
    """The two decodings of one model that the SWR gate compares in SSIM, PSNR and perceptual distance."""

    @model_validator(mode="after")
    def _check_order(self) -> "GatesSpec":
        if self.motion_ratio_low >= self.motion_ratio_high:
            raise FieldError(
                "motion_ratio_low",
                f"motion_ratio_low ({self.motion_ratio_low:g}) must be below motion_ratio_high "
                f"({self.motion_ratio_high:g})",
            )
        return self


class EvaluationSpec(Spec):
    """The metrics of videos in all stages, and the scoring of all clip sets, comparisons and gates."""

    perceptual: PerceptualSpec = HaarPsiSpec(kind="haarpsi")
    """The perceptual distance of all stages that use one: tokenizer, world model, alignment and rollouts."""
    frechet: FrechetSpec | None = FrechetSpec()
    """The Fréchet distance of clip sets, measured by the rollout stage; null for none."""
    scorers: Annotated[tuple[ScorerName, ...], items()] = ("student", "judge", "held_out")
    """The learned scorers. A gain by the training judge that the held-out judge does not confirm is reward hacking."""
    gold: bool = True
    """Score by gold too: the rubric over the states that the gold probe perceives, against the true outcome. Only for
    sources with states."""
    agreement: Annotated[tuple[Pattern, ...], items()] = ("supervised.*.*", "aligned.*.*")
    """The clip sets on which the learned scorers' agreement with gold is measured; by default not those of best-of-N
    (`supervised.best_of_4`), which the student chose by its own score."""
    draws: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Bootstrap draws for the 95 % intervals."""
    seed: Seed = 0
    """Seed of the bootstrap."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """Clips scored at once; affects the speed, not the scores."""
    strongest_baseline: StrongestBaselineSpec = StrongestBaselineSpec()
    """The choice of the strongest baseline, and the clip sets compared with it."""
    comparisons: Annotated[tuple[ComparisonSpec, ...], items(0)] = (
        ComparisonSpec(model="aligned.ar.greedy", against="supervised.ar.greedy"),
        ComparisonSpec(model="aligned.swr.greedy", against="supervised.swr.greedy"),
        ComparisonSpec(model="aligned.ar.sampled", against="supervised.ar.sampled"),
        ComparisonSpec(model="aligned.swr.sampled", against="supervised.swr.sampled"),
        ComparisonSpec(model="supervised.swr.greedy", against="supervised.ar.greedy"),
    )
    """Additional paired differences. Those whose clip sets do not exist are listed as not measured."""
    aligned: Annotated[tuple[ComparisonSpec, ...], items()] = (
        ComparisonSpec(model="aligned.swr.greedy", against="supervised.swr.greedy"),
        ComparisonSpec(model="aligned.swr.sampled", against="supervised.swr.sampled"),
    )
    """The comparisons of the gate "aligned above supervised"; all of them must pass."""
    external: Annotated[tuple[ExternalSpec, ...], items(0)] = ()
    """Videos of other models. Comparisons pair them with the episodes of the same names."""
    gates: GatesSpec = GatesSpec()
    """The thresholds of the gates."""

    @model_validator(mode="after")
    def _consistent(self) -> "EvaluationSpec":
        if len(set(self.scorers)) != len(self.scorers):
            raise FieldError("scorers", "a scorer is listed twice; remove one")
        if self.strongest_baseline.scorer not in self.scorers:
            raise FieldError(
                "strongest_baseline.scorer",
                f"{self.strongest_baseline.scorer} is not in scorers; add it there, or choose one of them",
            )
        files = [entry.scores for entry in self.external]
        for index, file in enumerate(files):
            if file in files[:index]:
                raise FieldError(f"external.{index}.scores", f"{file} is listed twice; remove one")
        known = {f"external.{entry.name}" for entry in self.external if entry.format == "scores"}
        for field in ("comparisons", "aligned"):
            for index, pair in enumerate(getattr(self, field)):
                for side in ("model", "against"):
                    name = getattr(pair, side)
                    if name.startswith("external.") and name not in known:
                        raise FieldError(
                            f"{field}.{index}.{side}", f"{name} is not in external; add its name and scores there"
                        )
        return self
