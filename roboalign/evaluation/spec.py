"""What is compared with what, with which statistics, and what counts as good enough."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from roboalign.metrics.frechet_spec import FrechetSpec
from roboalign.metrics.perceptual_spec import PerceptualSpec, StLpipsSpec
from roboalign.spec.base import FieldError, Fraction, Name, Positive, Seed, Spec, items

ClipSet = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$", max_length=128)]
"""The name of a set of clips that the rollout stage wrote: `copy_last`, `supervised.swr.greedy`."""

Pattern = Annotated[str, Field(pattern=r"^[a-z0-9_.*]+$", max_length=128)]
"""Names of clip sets by a shell pattern: `supervised.*`."""

ScorerName = Literal["student", "judge", "held_out"]
"""A scorer: the distilled student reward, the judge that taught it, or the held-out judge, which taught nobody."""


class ComparisonSpec(Spec):
    """One paired difference: the same episodes and seeds under two models."""

    model: ClipSet
    """The clip set that is expected to score higher."""
    against: ClipSet
    """The clip set that it is compared with."""


class StrongestBaselineSpec(Spec):
    """Which clip sets compete for the strongest baseline, and which are compared with the winner."""

    among: Annotated[tuple[Pattern, ...], items()] = ("copy_context", "supervised.*", "best_of_*")
    """The baselines (docs/protocol.md). `copy_last` is none: it repeats the *true* frame before each."""
    leaving_out: Annotated[tuple[Pattern, ...], items(0)] = ("*.true_refresh.*",)
    """Clip sets that match `among` but see what no model may, such as true later frames: bounds, not baselines."""
    models: Annotated[tuple[Pattern, ...], items()] = ("aligned.*",)
    """The clip sets to compare with the winner."""
    scorer: ScorerName = "judge"
    """The strongest baseline is the one with the highest mean total by this scorer (paper: the judge)."""


class ExternalSpec(Spec):
    """Videos that another model made, scored by `python -m roboalign score`, as one more model of the tables."""

    name: Name
    """The model's name; in tables, comparisons and patterns `external.<name>`."""
    scores: Annotated[str, Field(pattern=r"^external/[A-Za-z0-9_\-][A-Za-z0-9_.\-]*\.json$", max_length=200)]
    """What `score --json` wrote, in the folder `external/`, which the stage depends on. Two files of one name are the
    same videos by the two scorers."""


class GatesSpec(Spec):
    """Thresholds of the gates; each gate is reported as passed, failed or not measured, with its figures."""

    motion_ratio_low: Positive = 0.7
    """Least motion energy of aligned rollouts over that of the supervised model's (docs/protocol.md); below: frozen."""
    motion_ratio_high: Positive = 1.3
    """Most motion energy of aligned rollouts over that of the supervised model's; above: flicker."""
    motion: Annotated[tuple[ClipSet, ...], items()] = ("supervised.ar.greedy", "supervised.swr.greedy")
    """Clip sets whose motion energy over that of the true future has to lie between the same two thresholds."""
    student_gold_correlation: Fraction = 0.35
    """Least correlation of the student's faithful totals with gold's within groups of rollouts of one prompt."""
    best_of: Annotated[int, Field(ge=2, le=16)] = 16
    """The best of so many rollouts by the student has to gain gold, its interval above 0; 2, 4, 8 or 16."""
    swr: ComparisonSpec = ComparisonSpec(model="supervised.swr.greedy", against="supervised.ar.greedy")
    """The two decodings of one model whose SSIM, PSNR and perceptual distance the SWR gate compares."""

    @model_validator(mode="after")
    def _check_order(self) -> "GatesSpec":
        if self.motion_ratio_low >= self.motion_ratio_high:
            raise FieldError(
                "motion_ratio_low",
                f"motion_ratio_low is {self.motion_ratio_low:g}, not below motion_ratio_high "
                f"{self.motion_ratio_high:g}; lower it",
            )
        return self


class EvaluationSpec(Spec):
    """How videos are measured in all stages; scoring of every clip set by every scorer, paired comparisons, gates."""

    perceptual: PerceptualSpec = StLpipsSpec(kind="st_lpips")
    """The perceptual distance of every stage that has one: tokenizer, world model, alignment and rollouts."""
    frechet: FrechetSpec | None = FrechetSpec()
    """The Fréchet distance of the clip sets, which the rollout stage measures; null measures none."""
    scorers: Annotated[tuple[ScorerName, ...], items()] = ("student", "judge", "held_out")
    """Who scores. A gain that only the training judge sees is reward hacking and is reported as such."""
    gold: bool = True
    """Score by gold too: the rubric over the states that the probe sees, against the true outcome of the same actions.
    Of sources without states it knows nothing."""
    agreement: Annotated[tuple[Pattern, ...], items()] = ("supervised.*", "aligned.*")
    """The clip sets over which the learned scorers' agreement with gold is measured: generated ones."""
    draws: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Bootstrap draws of the 95 % intervals (our choice)."""
    seed: Seed = 0
    """Seed of the bootstrap."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """Clips scored at once; changes the speed, not the scores."""
    strongest_baseline: StrongestBaselineSpec = StrongestBaselineSpec()
    """The strongest baseline and what is compared with it."""
    comparisons: Annotated[tuple[ComparisonSpec, ...], items(0)] = (
        ComparisonSpec(model="aligned.ar.greedy", against="supervised.ar.greedy"),
        ComparisonSpec(model="aligned.swr.greedy", against="supervised.swr.greedy"),
        ComparisonSpec(model="aligned.ar.sampled", against="supervised.ar.sampled"),
        ComparisonSpec(model="aligned.swr.sampled", against="supervised.swr.sampled"),
        ComparisonSpec(model="supervised.swr.greedy", against="supervised.ar.greedy"),
    )
    """Further paired differences. One whose clip sets the rollout spec does not make is listed as not measured."""
    aligned: Annotated[tuple[ComparisonSpec, ...], items()] = (
        ComparisonSpec(model="aligned.swr.greedy", against="supervised.swr.greedy"),
        ComparisonSpec(model="aligned.swr.sampled", against="supervised.swr.sampled"),
    )
    """The comparisons that the gate "aligned above supervised" reads: each of them has to pass."""
    external: Annotated[tuple[ExternalSpec, ...], items(0)] = ()
    """Other models' videos. A comparison with one of them pairs videos that are named as the episodes."""
    gates: GatesSpec = GatesSpec()
    """Thresholds of the gates."""

    @model_validator(mode="after")
    def _consistent(self) -> "EvaluationSpec":
        if len(set(self.scorers)) != len(self.scorers):
            raise FieldError("scorers", "scorers lists a scorer twice; remove one")
        if self.strongest_baseline.scorer not in self.scorers:
            raise FieldError(
                "strongest_baseline.scorer",
                f"strongest_baseline.scorer is {self.strongest_baseline.scorer}, which scorers does not list; add it",
            )
        files = [entry.scores for entry in self.external]
        for index, file in enumerate(files):
            if file in files[:index]:
                raise FieldError(f"external.{index}.scores", f"external lists {file} twice; remove one")
        known = {f"external.{entry.name}" for entry in self.external}
        for field in ("comparisons", "aligned"):
            for index, pair in enumerate(getattr(self, field)):
                for side in ("model", "against"):
                    name = getattr(pair, side)
                    if name.startswith("external.") and name not in known:
                        raise FieldError(
                            f"{field}.{index}.{side}", f"{name} is not listed under external; add its name and scores"
                        )
        return self
