"""Alignment: the policy (the world model) is optimised on a reward of its own rollouts; the student is distilled
online.

Defaults are our choice unless a source is named.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.reward.spec import DistilledSignal, RewardSignal, SumSignal
from roboalign.rollout.spec import PolicyDecodingSpec, SwrSpec
from roboalign.spec.base import FieldError, Fraction, Policy, Positive, Seed, Spec, items
from roboalign.spec.training import RequiredTraining


class GRPOSpec(Spec):
    """Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300; used by the paper): compares rollouts of one
    prompt and clips the likelihood ratio."""

    kind: Literal["grpo"]
    clip_eps: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """eps, the lower clipping of the likelihood ratio (0.2 in RLVR-World)."""
    clip_eps_high: Annotated[float, Field(gt=0, lt=10)] | None = None
    """Upper clipping of the likelihood ratio; null is `clip_eps` (0.28 in DAPO, arXiv 2503.14476)."""
    epochs: Annotated[int, Field(ge=1, le=64)] = 1
    """Updates on the same rollouts. In the first update the likelihood ratio is 1."""
    advantage: Literal["standardized", "centred", "rank"] = "standardized"
    """Rewards minus the group's mean. `standardized`: divided by the group's standard deviation (GRPO); `centred`: not
    divided (Dr. GRPO, arXiv 2503.20783); `rank`: replaced by ranks in [-1, 1], which are robust to outliers."""
    min_std: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Minimum standard deviation that advantages are divided by, in units of the reward, so that the noise of a reward
    that hardly differs between rollouts is not amplified. 0 in GRPO."""
    reward_to_go: bool = False
    """Give each frame the sum of the rewards from that frame on. Only for rewards by frame (`mse`, `l1`)."""


class FirstOrderSpec(Spec):
    """Differentiates the reward through reward model, decoder and code values into the expected code values of the
    policy (straight-through). The gradient has a direction for each token, not one advantage for the whole rollout."""

    kind: Literal["first_order"]
    min_std: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Minimum standard deviation of the batch's rewards that the gradient is divided by, in units of the reward."""
    greedy_share: Fraction = 0.0
    """Fraction of the updates that use greedy rollouts, evenly spaced; the others use sampled rollouts. The gradient
    does not require samples, and training on greedy rollouts improves greedy evaluation."""


class BestOfNSpec(Spec):
    """Fine-tuning on the best rollouts of each group by the reward (rejection sampling, RAFT, arXiv 2304.06767)."""

    kind: Literal["best_of_n"]
    keep: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of rollouts kept of each group; must be below `group_size`."""


PolicyOptimizerSpec = Annotated[GRPOSpec | FirstOrderSpec | BestOfNSpec, Field(discriminator="kind")]
"""The optimiser of the policy."""


class DistillationSpec(Spec):
    """Online distillation (paper): the judge scores new rollouts and the student is trained on them, against reward
    hacking."""

    every: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Policy updates between two rounds; K in the paper, which does not give its value."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Student updates per round."""
    sets: Annotated[int, Field(ge=1, le=65_536)] = 4
    """Sets of clips per student update."""
    bench_share: Fraction = 0.5
    """Fraction of the sets that come from the bench, so that the student does not forget it."""
    bench_clips: Annotated[int, Field(ge=0, le=1_000_000)] = 256
    """Number of clips of the bench's training split that are used."""
    capacity: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Rollouts in the replay buffer; new ones replace the oldest."""
    min_disagreement: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Minimum mean difference between the totals of student and judge on the new rollouts, in points; below it, a round
    does not train the student."""
    learning_rate: Positive = 1e-4
    """Peak learning rate of the student, with the policy's schedule."""


class GuardSpec(Spec):
    """Checks the policy on validation prompts during training, and keeps the weights of the best check."""

    every: Annotated[int, Field(ge=1, le=1_000_000)] = 15
    """Policy updates between two checks; the first check is before training."""
    prompts: Annotated[int, Field(ge=2, le=100_000)] = 24
    """Number of validation prompts; every check uses the same seeds."""
    scorer: Literal["held_out", "judge"] = "held_out"
    """The scorer whose faithful total decides which check is best. Gold scores are only reported."""
    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """Number of successive checks without improvement after which training stops."""
    max_psnr_loss: Annotated[float, Field(ge=0, le=100)] = 0.3
    """Maximum decrease of PSNR in dB from the first check; a check with a larger one cannot be the best."""


class AlignmentMeasureSpec(Spec):
    """The comparison of the model before and after alignment on test episodes, with the same seeds for both."""

    prompts: Annotated[int, Field(ge=2, le=100_000)] = 64
    """Number of prompts, evenly spaced over the segments of the test episodes."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Prompts rolled out at once; affects the speed, not the results."""
    gradient_batches: Annotated[int, Field(ge=0, le=1000)] = 4
    """Number of batches whose policy gradients are compared before training; the cosine between them is the
    signal-to-noise ratio of one update. 0, or at least 2."""
    seed: Seed = 1
    """Seed of the sampling."""


class RLSpec(Spec):
    """Alignment (paper): optimises the policy on the reward of its rollouts, with a KL penalty."""

    reward: RewardSignal = DistilledSignal(kind="distilled")
    """The reward that is maximised."""
    optimizer: PolicyOptimizerSpec = GRPOSpec(kind="grpo")
    """The optimiser of the policy (paper: GRPO)."""
    group_size: Annotated[int, Field(ge=1, le=1024)] = 8
    """G, rollouts of each prompt; `grpo` and `best_of_n` need at least 2 (16 in RLVR-World)."""
    horizon: Annotated[int, Field(ge=1, le=1024)] = 30
    """Predicted frames of a rollout (7 in RLVR-World; the paper evaluates 30)."""
    decoding: PolicyDecodingSpec = SwrSpec()
    """Decoding of the rollouts. With `swr`, each window is a separate sequence under its re-encoded context."""
    stride: Annotated[int, Field(ge=1, le=1024)] = 4
    """Frames between the context frames of two prompts of an episode."""
    policies: Annotated[tuple[Policy, ...], items()] = ("expert", "noisy_expert", "wrong_goal", "random", "unknown")
    """Prompts come from training episodes of these policies. Without failed episodes, the world model learns that all
    actions succeed."""
    temperature: Positive = 1.0
    """Temperature of the rollouts and of their likelihoods (1 in RLVR-World)."""
    kl_coef: Annotated[float, Field(ge=0, le=100)] = 0.02
    """beta, the weight of the KL divergence from the supervised model (0.001 in RLVR-World)."""
    distillation: DistillationSpec | None = DistillationSpec()
    """Online distillation; null does not train the student."""
    guard: GuardSpec | None = GuardSpec()
    """Checks on validation prompts; null trains all steps and keeps the last weights."""
    training: RequiredTraining
    """Optimisation; `batch_size` counts prompts (128 at learning rate 5e-5 in RLVR-World)."""
    measure: AlignmentMeasureSpec = AlignmentMeasureSpec()
    """The comparison before and after alignment."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        terms = [term.signal for term in self.reward.terms] if isinstance(self.reward, SumSignal) else [self.reward]
        if self.distillation is not None and not any(isinstance(term, DistilledSignal) for term in terms):
            raise FieldError(
                "distillation", f"the reward {self.reward.kind} does not use the student; set distillation to null"
            )
        compared = isinstance(self.optimizer, GRPOSpec | BestOfNSpec)
        if compared and self.group_size < 2:
            raise FieldError(
                "group_size", f"{self.optimizer.kind} compares rollouts of one prompt; set it to 2 or more"
            )
        if isinstance(self.optimizer, BestOfNSpec) and self.optimizer.keep >= self.group_size:
            raise FieldError(
                "optimizer.keep",
                f"keep ({self.optimizer.keep}) must be below group_size ({self.group_size}), so that some are rejected",
            )
        flat = [term.kind for term in terms if not term.differentiable]
        if isinstance(self.optimizer, FirstOrderSpec) and flat:
            raise FieldError("optimizer.kind", f"the reward {flat[0]} has no gradient; use grpo or best_of_n")
        by_frame = self.reward.kind in ("mse", "l1")
        if isinstance(self.optimizer, GRPOSpec) and self.optimizer.reward_to_go and not by_frame:
            raise FieldError(
                "optimizer.reward_to_go", f"the reward {self.reward.kind} is not defined by frame; use mse or l1"
            )
        if self.measure.gradient_batches == 1:
            raise FieldError(
                "measure.gradient_batches", "one batch cannot be compared with another; set it to 0, or to 2 or more"
            )
        return self
