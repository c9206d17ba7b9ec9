"""The training step of alignment: sample rollouts in groups, compute rewards, update the policy; periodically distil
the student and check the policy on validation prompts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import assert_never, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from roboalign.distributed import average_over_ranks, from_first_rank, gather_rows
from roboalign.optimizer import Muon, build_optimizer, is_layer_matrix
from roboalign.reward.dimensions import VARIANTS
from roboalign.reward.losses import set_loss
from roboalign.reward.observation import SetBatch
from roboalign.reward.rewards import Reward, Rollouts
from roboalign.rl.advantage import group_advantage, relative_advantage, reward_to_go
from roboalign.rl.best_of_n import pick_best
from roboalign.rl.first_order import reward_scale
from roboalign.rl.guard import Check, decide
from roboalign.rl.interfaces import RolloutFn, ValueTokenizer
from roboalign.rl.policy_loss import Credit, PolicyLoss
from roboalign.rl.prompts import Item, Prompts
from roboalign.rl.replay_buffer import ReplayBuffer
from roboalign.rl.rollouts import PolicyRollouts, sample_rollouts, split_rows, value_gradients
from roboalign.rl.spec import BestOfNSpec, FirstOrderSpec, GRPOSpec, RLSpec
from roboalign.sharded_weights import copy_whole_weights, is_sharded, shard_like
from roboalign.student.model import Student
from roboalign.trained_module import TrainedModule
from roboalign.training import fold_in

ObserveFn = Callable[[Rollouts], SetBatch]
"""Converts rollouts to the student's inputs, on the CPU, with the judge's normalised scores as targets."""


@dataclass(frozen=True)
class AlignmentComponents:
    """Frozen collaborators, kept out of the module so that checkpoints exclude them."""

    tokenizer: ValueTokenizer
    reference: nn.Module
    """The supervised world model, pi_0."""
    rollout: RolloutFn
    """Samples from the current policy."""
    greedy_rollout: RolloutFn
    """Takes the most likely tokens of the current policy."""
    reward: Reward
    """Rewards (B,); the distilled reward uses the current student."""
    reward_by_frame: Callable[[Rollouts], Tensor] | None = None
    """Rewards (B, F); None if the reward is not defined for single frames."""
    observe: ObserveFn | None = None
    """Labels rollouts for online distillation."""
    bench: Sequence[SetBatch] = ()
    """Groups of the bench's clips that distillation replays, so that the student does not forget them."""
    check: Callable[[int], Check] | None = None
    """Measures the current policy on validation prompts; takes the step."""
    sampled_policy: nn.Module | None = None
    """The copy of the policy that `rollout` and `check` use if the policy's own weights are sharded over devices; it
    follows the policy. None if they use the policy itself."""


class AlignmentModule(TrainedModule):
    """Holds the policy, the student, the replay buffer and the weights of the best check."""

    distillation_loss: Tensor
    disagreement: Tensor
    checks: Tensor
    sampling_parts: int = 1
    """Parts in which rollouts are sampled and rewarded."""

    def __init__(
        self,
        spec: RLSpec,
        policy: nn.Module,
        student: Student,
        prompts: Prompts,
        components: AlignmentComponents,
        buffer: ReplayBuffer | None = None,
    ) -> None:
        """Set up the training.

        Args:
            spec: The alignment.
            policy: The world model that is trained.
            student: Trained too if `buffer` is set.
            prompts: The training prompts.
            components: Frozen collaborators.
            buffer: Replay buffer of online distillation; None without distillation.
        """
        super().__init__()
        self.spec, self.policy, self.student, self.prompts, self.parts = spec, policy, student, prompts, components
        self.buffer = buffer
        self.student.members.requires_grad_(buffer is not None)
        # Module buffers are saved in checkpoints, so the curve of a resumed run continues with the last round's values.
        self.register_buffer("distillation_loss", torch.zeros(()))
        self.register_buffer("disagreement", torch.zeros(()))
        most = 0 if spec.guard is None else spec.training.steps // spec.guard.every + 2
        self.register_buffer("checks", torch.full((most, len(fields(Check))), torch.nan, dtype=torch.float64))
        self.best = nn.ParameterDict()
        if spec.guard is not None:
            self.best = nn.ParameterDict(
                {
                    _key(name): nn.Parameter(p.detach().clone(), requires_grad=False)
                    for name, p in policy.named_parameters()
                }
            )
        table = components.tokenizer.code_values(torch.arange(self._codes())).float()
        self.loss = PolicyLoss(spec, policy, components.reference, table)

    def _codes(self) -> int:
        """Number of dynamics codes."""
        codes: int = self.policy.shape.dynamics_codes  # type: ignore[union-attr, assignment]
        return codes

    def shardable_models(self) -> list[nn.Module]:
        return [self.policy, self.parts.reference]

    def configure_model(self) -> None:
        """Shard policy, reference and the weights of the best check, if the strategy shards weights."""
        super().configure_model()
        for name, parameter in self.policy.named_parameters():
            if is_sharded(parameter) and self.best:
                best = shard_like(self.best[_key(name)].detach(), parameter)
                self.best[_key(name)] = nn.Parameter(best, requires_grad=False)

    def configure_optimizers(self) -> list[Muon]:
        training = self.spec.training
        optimizers = [build_optimizer(self.policy.named_parameters(), training, is_hidden=is_layer_matrix)]
        if self.buffer is not None and self.spec.distillation is not None:
            scale = self.spec.distillation.learning_rate / training.learning_rate
            optimizers.append(build_optimizer(self.student.members.named_parameters(), training, scale=scale))
        return optimizers

    def training_step(self, batch: Item, index: int) -> None:
        guard = self.spec.guard
        # A run that was killed after the check that stopped it resumes after that check, and must stop again.
        if guard is not None and (self._has_stopped() or (self.step % guard.every == 0 and self._check())):
            self.trainer.should_stop = True
            return
        self.student.eval()
        with self.time_phase("rollout"):
            self._update_sampled_policy()
            rollouts = self.sample(batch)
        policy_optimizer, *distillers = self.trained_optimizers()
        compared = isinstance(self.spec.optimizer, GRPOSpec) and self.spec.optimizer.epochs > 1
        old = self.loss.log_probabilities(rollouts, self.micro_batches) if compared else None
        logs: dict[str, Tensor] = {}
        with self.time_phase("reward"):
            credit = self.credit(rollouts)
        with self.time_phase("update"):
            for _ in range(self.spec.optimizer.epochs if isinstance(self.spec.optimizer, GRPOSpec) else 1):
                logs = self._update(rollouts, credit, old, policy_optimizer)
        deviation = rollouts.by_group(credit.rewards).std(1, correction=0)
        logs |= {
            "reward": credit.rewards.mean(),
            "reward_sd": deviation.mean(),
            "constant_groups": (deviation < 1e-6).float().mean(),
        }
        distillation = self.spec.distillation
        if self.buffer is not None and distillation is not None:
            if (self.step + 1) % distillation.every == 0:
                with self.time_phase("distillation"):
                    self._distil(rollouts, distillers[0])
            logs |= {"distillation_loss": self.distillation_loss, "disagreement": self.disagreement}
        if credit.advantage is not None:
            logs["advantage"] = credit.advantage.abs().mean()
        if (self.step + 1) % self.spec.training.log_every == 0:
            logs |= self._dimension_scores(rollouts)
        self.log_dict({name: value.detach() for name, value in logs.items()})

    def _update_sampled_policy(self) -> None:
        """Bring the copy of a sharded policy up to date."""
        if self.parts.sampled_policy is not None:
            copy_whole_weights(self.parts.sampled_policy, self.policy)

    @torch.no_grad()
    def _dimension_scores(self, rollouts: PolicyRollouts) -> dict[str, Tensor]:
        """The student's mean score of the rollouts in each dimension, as a fraction of the maximum score.

        Faithful scores, or absolute ones of a student that does not read actions.
        """
        batch, reward = rollouts.rollouts, self.student.reward
        variant = VARIANTS["faithful" if "actions" in self.student.spec.encoder.inputs else "absolute"]
        scores = self.student.sample(batch.videos, batch.instructions, batch.actions)[0, :, variant]
        fractions = scores.mean(0) / torch.tensor(reward.max_scores, device=scores.device)
        return {f"score/{name}": fraction for name, fraction in zip(reward.names, fractions, strict=True)}

    def sample(self, batch: Item, devices: int = 1) -> PolicyRollouts:
        """Sample rollouts of the prompts of a batch; their seeds depend on (seed, step, row of the global batch).

        `devices` is the number of devices whose prompts are in the batch, which divides it further.
        """
        spec, numbers = self.spec, [int(number) for number in batch["prompt"]]
        size, places = spec.group_size, self.shard.positions(len(numbers))
        rows = [place * size + member for place in places for member in range(size)]
        seeds = [fold_in(spec.training.seed, self.step, 3, 0, row) for row in rows]
        return sample_rollouts(
            batch,
            [self.prompts.instruction(number) for number in numbers],
            [self.prompts.task(number) for number in numbers],
            self.parts.greedy_rollout if self._greedy() else self.parts.rollout,
            self.parts.tokenizer,
            torch.tensor(seeds, device=batch["frames"].device),
            group_size=spec.group_size,
            segments=spec.decoding.segments(spec.horizon),
            reward_seed=fold_in(spec.training.seed, self.step, 5),
            parts=self.sampling_parts * devices,
        )

    def _greedy(self) -> bool:
        """Whether this step's rollouts are greedy; greedy steps are evenly spaced."""
        optimizer = self.spec.optimizer
        fraction = optimizer.greedy_share if isinstance(optimizer, FirstOrderSpec) else 0.0
        return math.floor((self.step + 1) * fraction) > math.floor(self.step * fraction)

    def credit(self, rollouts: PolicyRollouts, devices: int = 1) -> Credit:
        """Reward the rollouts and give each its part in the loss; `devices` as in `sample`."""
        spec, parts, sampling_parts = self.spec, self.parts, self.sampling_parts * devices
        if isinstance(spec.optimizer, FirstOrderSpec):
            rewards, gradients = value_gradients(
                rollouts, parts.tokenizer, parts.reward, self.micro_batches * devices, sampling_parts
            )
            scale = reward_scale(gather_rows(rewards), spec.optimizer.min_std)
            return Credit(rewards, gradients=gradients, scale=scale)
        with torch.no_grad():
            batch = rollouts.rollouts
            rewards = torch.cat([parts.reward(batch.select(r)) for r in split_rows(len(batch.videos), sampling_parts)])
            grouped = rollouts.by_group(rewards)
            match spec.optimizer:
                case GRPOSpec():
                    advantage = self._advantage_by_frame(rollouts, spec.optimizer)
                    if advantage is None:
                        advantage = relative_advantage(
                            grouped, spec.optimizer.advantage, spec.optimizer.min_std
                        ).flatten()
                    return Credit(rewards, advantage=advantage)
                case BestOfNSpec():
                    kept = pick_best(grouped, spec.optimizer.keep).flatten().float()
                    return Credit(rewards, kept=kept, imitated=average_over_ranks(kept.sum()).clamp(min=1e-6))
                case _:
                    assert_never(spec.optimizer)

    def gradient(self, rollouts: PolicyRollouts, credit: Credit, devices: int = 1) -> Tensor:
        """The gradient (N,) of the policy's loss on all rollouts; `devices` as in `sample`."""
        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        total = torch.zeros(sum(parameter.numel() for parameter in parameters), device=rollouts.tokens.device)
        for rows in split_rows(len(rollouts.tokens), self.micro_batches * devices):
            loss, _ = self.loss(rollouts, credit, rows)
            found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            total += torch.cat([gradient.flatten() for gradient in found])
        return total

    def _advantage_by_frame(self, rollouts: PolicyRollouts, spec: GRPOSpec) -> Tensor | None:
        """Advantages (B, F), if frames are credited with their own rewards."""
        if not spec.reward_to_go or self.parts.reward_by_frame is None:
            return None
        togo = rollouts.by_group(reward_to_go(self.parts.reward_by_frame(rollouts.rollouts)))
        return (
            group_advantage(togo.transpose(1, 2).flatten(0, 1), spec.min_std)
            .view(togo.shape[0], togo.shape[2], togo.shape[1])
            .transpose(1, 2)
            .flatten(0, 1)
        )

    def _check(self) -> bool:
        """Measure the policy and store its weights if they are the best so far. Returns whether to stop training."""
        spec = self.spec.guard
        if spec is None or self.parts.check is None:
            return False
        number = self.step // spec.every
        self.checks[number] = self._measure_check(self.parts.check)
        decision = decide(self.check_history, spec)
        if decision.best == number:
            for name, parameter in self.policy.named_parameters():
                self.best[_key(name)].data.copy_(parameter.data)
        return decision.stop

    def _measure_check(self, check: Callable[[int], Check]) -> Tensor:
        """A check by rank 0, for all ranks: they must come to the same decision.

        If weights are sharded, all ranks make it, because they gather the reference's together.
        """
        values = torch.empty(len(fields(Check)), dtype=torch.float64, device=self.device)
        self._update_sampled_policy()
        if self.global_rank == 0 or self.parts.sampled_policy is not None:
            values.copy_(torch.tensor(astuple(check(self.step)), dtype=torch.float64))
        return from_first_rank(values)

    def _has_stopped(self) -> bool:
        """Whether the checks so far have stopped the training."""
        return (
            self.spec.guard is not None
            and bool(self.check_history)
            and decide(self.check_history, self.spec.guard).stop
        )

    @property
    def check_history(self) -> list[Check]:
        """The checks so far, in order."""
        rows = self.checks[~self.checks[:, 0].isnan()].tolist()
        return [Check(int(row[0]), *row[1:]) for row in rows]

    def finish(self) -> None:
        """Check the last weights, then load those of the best check into the policy. Without a guard, do nothing."""
        if self.spec.guard is None or self.parts.check is None:
            return
        if not self._has_stopped():  # the last step has updated the policy
            check = self.parts.check(self.step + 1)
            row = len(self.check_history)
            self.checks[row] = torch.tensor(astuple(check), dtype=torch.float64)
            if decide(self.check_history, self.spec.guard).best == row:
                return
        for name, parameter in self.policy.named_parameters():
            parameter.data.copy_(self.best[_key(name)].data)

    def _distil(self, rollouts: PolicyRollouts, optimizer: LightningOptimizer) -> None:
        """One round of online distillation on new rollouts. Raises ValueError without a buffer or an `observe`."""
        spec, parts, buffer = self.spec.distillation, self.parts, self.buffer
        if spec is None or buffer is None or parts.observe is None:
            raise ValueError("online distillation needs a replay buffer and the judge")
        with torch.no_grad():
            labelled = parts.observe(rollouts.rollouts)
            scores = self.student.sample(
                rollouts.rollouts.videos, rollouts.rollouts.instructions, rollouts.rollouts.actions
            )[0]
            max_scores = torch.tensor(self.student.reward.max_scores, device=scores.device)
            # Every rank gets all rollouts, so that the students and their buffers stay the same. Ranks exchange tensors
            # of their device only.
            disagreement = gather_rows((scores - labelled["target"].to(scores) * max_scores).sum(-1).abs()).mean()
            local = cast(dict[str, Tensor], labelled)
            size, device = rollouts.group_size, self.device
            labelled = cast(SetBatch, {name: gather_rows(rows.to(device), size) for name, rows in local.items()})
        self.disagreement.copy_(disagreement)
        buffer.add(labelled)
        if disagreement < spec.min_disagreement:
            return
        bench_sets = round(spec.sets * spec.bench_share) if parts.bench else 0
        losses = []
        self.student.train()
        for number in range(spec.steps):
            generator = torch.Generator().manual_seed(fold_in(self.spec.training.seed, self.step, 4, number))
            sets: list[SetBatch] = []
            for _ in range(spec.sets - bench_sets):
                first = int(torch.randint(max(1, len(buffer) // size), (1,), generator=generator)) * size
                sets.append(buffer.clips(torch.arange(first, min(first + size, len(buffer)))))
            for _ in range(bench_sets):
                sets.append(parts.bench[int(torch.randint(len(parts.bench), (1,), generator=generator))])
            loss = torch.stack([self._distillation_loss(clips) for clips in sets]).mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        self.student.eval()
        self.distillation_loss.copy_(torch.stack(losses).mean())

    def _distillation_loss(self, clips: SetBatch) -> Tensor:
        """The student's loss on one set of rollouts of one prompt."""
        batch = {name: cast(Tensor, value).unsqueeze(0).to(self.device) for name, value in clips.items()}
        batch["grouped"] = torch.ones(1, device=self.device)
        return set_loss(self.student, cast(SetBatch, batch), 0, self.student.spec.loss)["loss"]

    def _update(
        self,
        rollouts: PolicyRollouts,
        credit: Credit,
        old: Sequence[Tensor] | None,
        optimizer: LightningOptimizer,
    ) -> dict[str, Tensor]:
        """One update of the policy on all rollouts of all ranks, a micro-batch in memory at a time."""
        logs: dict[str, Tensor] = {}
        optimizer.zero_grad()
        for rows in split_rows(len(rollouts.tokens), self.micro_batches):
            loss, parts = self.loss(rollouts, credit, rows, old)
            self.manual_backward(loss)
            logs = {name: logs.get(name, 0) + value.detach() for name, value in parts.items()}
        optimizer.step()
        return logs


def _key(name: str) -> str:
    """A parameter's name as a key of a ParameterDict, whose keys must not contain dots."""
    return name.replace(".", "/")
