"""Alignment: the policy (the world model) is optimised on a reward of its own rollouts, the student distilled online.

Defaults are our choice unless a source is named.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.reward.spec import DistilledSignal, RewardSignal, SumSignal
from roboalign.rollout.spec import PolicyDecodingSpec, SwrSpec
from roboalign.spec.base import FieldError, Fraction, Policy, Positive, Seed, Spec, items
from roboalign.spec.training import RequiredTraining


class GRPOSpec(Spec):
    """Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300; the paper's): rollouts of one prompt are
    compared with each other, the likelihood ratio is clipped."""

    kind: Literal["grpo"]
    clip_eps: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """eps, the lower clipping of the likelihood ratio (0.2: RLVR-World)."""
    clip_eps_high: Annotated[float, Field(gt=0, lt=10)] | None = None
    """The upper clipping; null is `clip_eps` (0.28: DAPO, arXiv 2503.14476)."""
    epochs: Annotated[int, Field(ge=1, le=64)] = 1
    """Updates on the same rollouts; the ratio differs from 1 only from the second on."""
    advantage: Literal["standardized", "centred", "rank"] = "standardized"
    """`standardized`: divided by the group's standard deviation (GRPO); `centred`: not divided (Dr. GRPO, arXiv
    2503.20783); `rank`: the rank within the group, from -1 to 1, robust to outliers of the reward."""
    min_std: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Least standard deviation that advantages are divided by, in units of the reward: a reward that hardly tells
    rollouts apart then does not drive the policy by its noise. 0 is GRPO's."""
    reward_to_go: bool = False
    """Credit each frame with the rewards from that frame on; for rewards that are given by frame (mse, l1)."""


class FirstOrderSpec(Spec):
    """The reward is differentiated through reward model, decoder and code values into the expected code values of the
    policy, straight-through: one rollout says how each token should change, not only whether the whole was good."""

    kind: Literal["first_order"]
    min_std: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Least standard deviation of the batch's rewards that the gradient is divided by, in units of the reward."""
    greedy_share: Fraction = 0.0
    """Share of the updates on greedy rollouts, spread evenly; the others are on sampled ones. The gradient does not
    need rollouts to be samples, and what is evaluated greedily gains by being trained so."""


class BestOfNSpec(Spec):
    """Fine-tuning on the best rollouts of each group by the reward (rejection sampling, RAFT, arXiv 2304.06767)."""

    kind: Literal["best_of_n"]
    keep: Annotated[int, Field(ge=1, le=1024)] = 1
    """Rollouts of each group that are kept; below the group's size."""


PolicyOptimizerSpec = Annotated[GRPOSpec | FirstOrderSpec | BestOfNSpec, Field(discriminator="kind")]
"""How the policy learns from rewarded rollouts."""


class DistillationSpec(Spec):
    """Online distillation (paper): the judge scores fresh rollouts, the student learns from them, against hacking."""

    every: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Policy updates between two rounds: K in the paper, which does not give it."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Student updates of one round."""
    sets: Annotated[int, Field(ge=1, le=65_536)] = 4
    """Sets of clips of one student update."""
    bench_share: Fraction = 0.5
    """Share of the sets that come from the bench, so that the student keeps what it knew."""
    bench_clips: Annotated[int, Field(ge=0, le=1_000_000)] = 256
    """Clips of the bench's train split that take part."""
    capacity: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Rollouts in the replay buffer; newer ones replace the oldest."""
    min_disagreement: Annotated[float, Field(ge=0, le=100)] = 0.0
    """A round trains the student only if its totals differ from the judge's by at least this much on average on the
    fresh rollouts, in points."""
    learning_rate: Positive = 1e-4
    """AdamW's learning rate for the student, on the policy's schedule."""


class GuardSpec(Spec):
    """Checks on validation prompts during training. The weights of the best check are kept."""

    every: Annotated[int, Field(ge=1, le=1_000_000)] = 15
    """Policy updates between two checks; the first check is before training."""
    prompts: Annotated[int, Field(ge=2, le=100_000)] = 24
    """Validation prompts, with the same seeds in every check."""
    scorer: Literal["held_out", "judge"] = "held_out"
    """Whose faithful total decides which check is best; gold is only reported."""
    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """Checks without a better one after which training stops."""
    max_psnr_loss: Annotated[float, Field(ge=0, le=100)] = 0.3
    """A check counts as better only if its PSNR, in dB, has not fallen by more than this from the first check's."""


class AlignmentMeasureSpec(Spec):
    """How the model before and after alignment is compared: held-out test episodes, the same seeds for both."""

    prompts: Annotated[int, Field(ge=2, le=100_000)] = 64
    """Prompts, spread evenly over the test episodes' segments."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Prompts rolled out at once; changes the speed, not the result."""
    gradient_batches: Annotated[int, Field(ge=0, le=1000)] = 4
    """Batches whose policy gradients are compared before training: the cosine between them is the signal-to-noise of
    one update. 0 or at least 2."""
    seed: Seed = 1
    """Seed of the sampling."""


class RLSpec(Spec):
    """Alignment (paper): rollouts are rewarded, and the policy is optimised on them, held by a KL divergence."""

    reward: RewardSignal = DistilledSignal(kind="distilled")
    """What is maximised."""
    optimizer: PolicyOptimizerSpec = GRPOSpec(kind="grpo")
    """How the policy learns from it (paper: GRPO)."""
    group_size: Annotated[int, Field(ge=1, le=1024)] = 8
    """G, rollouts of one prompt; `grpo` and `best_of_n` need at least two (16: RLVR-World)."""
    horizon: Annotated[int, Field(ge=1, le=1024)] = 30
    """Predicted frames of a rollout (7: RLVR-World; 30: as the paper evaluates)."""
    decoding: PolicyDecodingSpec = SwrSpec()
    """How rollouts are made. Of `swr`, each window is a sequence of its own under its re-encoded context."""
    stride: Annotated[int, Field(ge=1, le=1024)] = 4
    """Frames between the context frames of two prompts of an episode."""
    policies: Annotated[tuple[Policy, ...], items()] = ("expert", "noisy_expert", "wrong_goal", "random", "unknown")
    """Whose training episodes give prompts: failures too, or the policy learns that everything succeeds."""
    temperature: Positive = 1.0
    """Temperature of the rollouts; the likelihoods are of the same distribution (1: RLVR-World)."""
    kl_coef: Annotated[float, Field(ge=0, le=100)] = 0.02
    """beta, the weight of the KL divergence to the supervised model (0.001: RLVR-World)."""
    distillation: DistillationSpec | None = DistillationSpec()
    """Online distillation; null keeps the student as it is."""
    guard: GuardSpec | None = GuardSpec()
    """Checks on validation prompts; null trains all steps and keeps the last weights."""
    training: RequiredTraining
    """Optimisation; `batch` counts prompts a step (128 at lr 5e-5: RLVR-World)."""
    measure: AlignmentMeasureSpec = AlignmentMeasureSpec()
    """Before and after."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        terms = [term.signal for term in self.reward.terms] if isinstance(self.reward, SumSignal) else [self.reward]
        if self.distillation is not None and not any(isinstance(term, DistilledSignal) for term in terms):
            raise FieldError(
                "distillation", f"the reward {self.reward.kind} does not use the student; set distillation to null"
            )
        compared = isinstance(self.optimizer, GRPOSpec | BestOfNSpec)
        if compared and self.group_size < 2:
            raise FieldError("group_size", f"{self.optimizer.kind} compares rollouts of one prompt; make it at least 2")
        if isinstance(self.optimizer, BestOfNSpec) and self.optimizer.keep >= self.group_size:
            raise FieldError(
                "optimizer.keep",
                f"keep is {self.optimizer.keep}, not below group_size, which is {self.group_size}: nothing is rejected",
            )
        if isinstance(self.optimizer, FirstOrderSpec) and self.reward.kind == "gold":
            raise FieldError("optimizer.kind", "the reward gold has no gradient; take grpo or best_of_n")
        by_frame = self.reward.kind in ("mse", "l1")
        if isinstance(self.optimizer, GRPOSpec) and self.optimizer.reward_to_go and not by_frame:
            raise FieldError("optimizer.reward_to_go", f"the reward {self.reward.kind} is given by clip, not by frame")
        if self.measure.gradient_batches == 1:
            raise FieldError(
                "measure.gradient_batches", "one batch has nothing to be compared with; take 0, or 2 or more"
            )
        return self
