"""The training step of alignment: sample rollouts in groups, compute rewards, update the policy; periodically distil
the student and check the policy on validation prompts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import assert_never, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from roboalign.distributed import average_gradients, from_first_rank, gather_rows
from roboalign.optimizer import Muon, build_optimizer, is_layer_matrix
from roboalign.reward.dimensions import VARIANTS
from roboalign.reward.losses import set_loss
from roboalign.reward.observation import SetBatch
from roboalign.reward.rewards import Reward, Rollouts
from roboalign.rl.advantage import group_advantage, relative_advantage, reward_to_go
from roboalign.rl.best_of_n import pick_best
from roboalign.rl.first_order import exact_kl, expected_values, first_order_loss, reward_scale
from roboalign.rl.grpo import grpo, token_log_probabilities
from roboalign.rl.guard import Check, decide
from roboalign.rl.interfaces import RolloutFn, ValueTokenizer
from roboalign.rl.prompts import Item, Prompts
from roboalign.rl.replay_buffer import ReplayBuffer
from roboalign.rl.rollouts import PolicyRollouts, Window, sample_rollouts, value_gradients
from roboalign.rl.spec import BestOfNSpec, FirstOrderSpec, GRPOSpec, RLSpec
from roboalign.student.model import Student
from roboalign.training import TrainedModule, fold_in

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


@dataclass(frozen=True)
class Credit:
    """The rewards of B rollouts in the form that the loss of each optimiser needs."""

    rewards: Tensor
    """(B,)."""
    gradients: list[Tensor] | None = None
    """First order: of the rewards with respect to the code values of each window, (B, frames, Nd, V)."""
    scale: Tensor | float = 1.0
    """First order: the unit of the gradients."""
    advantage: Tensor | None = None
    """GRPO: (B,) by rollout, or (B, F) by frame."""
    kept: Tensor | None = None
    """Best of N: (B,), 1 for the rollouts to imitate."""


class AlignmentModule(TrainedModule):
    """Holds the policy, the student, the replay buffer and the weights of the best check."""

    distillation_loss: Tensor
    disagreement: Tensor
    checks: Tensor

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
        self.automatic_optimization = False
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
        self.table = components.tokenizer.code_values(torch.arange(self._codes())).float()

    def _codes(self) -> int:
        """Number of dynamics codes."""
        codes: int = self.policy.shape.dynamics_codes  # type: ignore[union-attr, assignment]
        return codes

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
            rollouts = self.sample(batch)
        optimizers = self.optimizers()
        policy_optimizer = optimizers[0] if isinstance(optimizers, list) else optimizers
        assert isinstance(policy_optimizer, LightningOptimizer)
        old = self._old(rollouts)
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
                assert isinstance(optimizers, list)
                distiller = optimizers[1]
                assert isinstance(distiller, LightningOptimizer)
                with self.time_phase("distillation"):
                    self._distil(rollouts, distiller)
            logs |= {"distillation_loss": self.distillation_loss, "disagreement": self.disagreement}
        if credit.advantage is not None:
            logs["advantage"] = credit.advantage.abs().mean()
        if (self.step + 1) % self.spec.training.log_every == 0:
            logs |= self._dimension_scores(rollouts)
        self.log_dict({name: value.detach() for name, value in logs.items()})

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

    def sample(self, batch: Item) -> PolicyRollouts:
        """Sample rollouts of the prompts of a batch; their seeds depend on (seed, step, row of the global batch)."""
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
            rows_at_once=spec.micro_batch_size,
        )

    def _greedy(self) -> bool:
        """Whether this step's rollouts are greedy; greedy steps are evenly spaced."""
        optimizer = self.spec.optimizer
        fraction = optimizer.greedy_share if isinstance(optimizer, FirstOrderSpec) else 0.0
        return math.floor((self.step + 1) * fraction) > math.floor(self.step * fraction)

    def credit(self, rollouts: PolicyRollouts) -> Credit:
        """Reward the rollouts and give each its part in the loss."""
        spec, parts = self.spec, self.parts
        if isinstance(spec.optimizer, FirstOrderSpec):
            rewards, gradients = value_gradients(rollouts, parts.tokenizer, parts.reward, spec.micro_batch_size)
            scale = reward_scale(gather_rows(rewards), spec.optimizer.min_std)
            return Credit(rewards, gradients=gradients, scale=scale)
        with torch.no_grad():
            rewards = parts.reward(rollouts.rollouts)
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
                    return Credit(rewards, kept=pick_best(grouped, spec.optimizer.keep).flatten().float())
                case _:
                    assert_never(spec.optimizer)

    def loss(
        self, rollouts: PolicyRollouts, credit: Credit, rows: slice = slice(None), old: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The part of the policy's loss that `rows` of its rollouts have, and their part in what curves show.

        The parts of all rows add up to the whole. `old` has for each window the log-probabilities of the policy that
        sampled; None if that is the policy as it is.
        """
        spec = self.spec
        count, total = len(rollouts.tokens[rows]), rollouts.tokens.shape[1]
        part = count / len(rollouts.tokens)
        terms: dict[str, Tensor] = {}
        for number, window in enumerate(rollouts.windows):
            sequence = rollouts.sequence(window, rows)
            share = (window.stop - window.start) / total
            logits = self.policy(*sequence)
            with torch.no_grad():
                reference = self.parts.reference(*sequence)
            if credit.gradients is not None:
                kl = exact_kl(logits, reference, spec.temperature).mean()
                expected = expected_values(logits, self.table.to(logits.device), spec.temperature)
                loss = first_order_loss(expected, credit.gradients[number][rows], credit.scale) + spec.kl_coef * kl
                logs = {"kl": kl, "entropy": _entropy(logits, spec.temperature)}
            else:
                policy, entropy = token_log_probabilities(logits, sequence[1], spec.temperature)
                if credit.kept is not None:
                    kept = credit.kept[rows]
                    kl = exact_kl(logits, reference, spec.temperature).mean()
                    likelihood = (policy.flatten(1).mean(1) * kept).sum() / (credit.kept.sum().clamp(min=1) * part)
                    loss, logs = spec.kl_coef * kl - likelihood, {"kl": kl, "kept": kept.mean()}
                else:
                    before = policy.detach() if old is None else old[number][rows]
                    loss, logs = self._grpo(policy, before, reference, sequence[1], credit, window, rows)
                logs["entropy"] = entropy.mean()
            for name, value in (logs | {"loss": loss}).items():
                terms[name] = terms.get(name, torch.zeros((), device=loss.device)) + part * share * value
        return terms["loss"], terms

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

    def _grpo(
        self,
        policy: Tensor,
        old: Tensor,
        reference: Tensor,
        tokens: Tensor,
        credit: Credit,
        window: Window,
        rows: slice,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """GRPO's loss of one window."""
        spec = self.spec.optimizer
        assert isinstance(spec, GRPOSpec)
        assert credit.advantage is not None
        advantage = credit.advantage[rows]
        if advantage.ndim > 1:
            advantage = advantage[:, window.start : window.stop]
        anchor, _ = token_log_probabilities(reference, tokens, self.spec.temperature)
        parts = grpo(policy, old, anchor, advantage, spec.clip_eps, self.spec.kl_coef, spec.clip_eps_high)
        return parts.loss, {"kl": parts.kl, "clip_fraction": parts.clip_fraction}

    @torch.no_grad()
    def _old(self, rollouts: PolicyRollouts) -> list[Tensor] | None:
        """The log-probabilities of the sampled tokens before the updates; None if there is only one update."""
        if not isinstance(self.spec.optimizer, GRPOSpec) or self.spec.optimizer.epochs == 1:
            return None
        sequences = [rollouts.sequence(window) for window in rollouts.windows]
        temperature = self.spec.temperature
        return [token_log_probabilities(self.policy(*each), each[1], temperature)[0] for each in sequences]

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
        """A check by rank 0, for all ranks: they must come to the same decision."""
        values = torch.empty(len(fields(Check)), dtype=torch.float64, device=self.device)
        if self.global_rank == 0:
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
            # Every rank gets all rollouts, so that the students and their buffers stay the same.
            disagreement = gather_rows((scores - labelled["target"].to(scores) * max_scores).sum(-1).abs()).mean()
            local = cast(dict[str, Tensor], labelled)
            labelled = cast(SetBatch, {name: gather_rows(rows, rollouts.group_size) for name, rows in local.items()})
        self.disagreement.copy_(disagreement)
        buffer.add(labelled)
        if disagreement < spec.min_disagreement:
            return
        bench_sets = round(spec.sets * spec.bench_share) if parts.bench else 0
        losses = []
        self.student.train()
        for number in range(spec.steps):
            generator = torch.Generator().manual_seed(fold_in(self.spec.training.seed, self.step, 4, number))
            size = rollouts.group_size
            sets: list[SetBatch] = []
            for _ in range(spec.sets - bench_sets):
                first = int(torch.randint(max(1, len(buffer) // size), (1,), generator=generator)) * size
                sets.append(buffer.clips(torch.arange(first, min(first + size, len(buffer)))))
            for _ in range(bench_sets):
                sets.append(parts.bench[int(torch.randint(len(parts.bench), (1,), generator=generator))])
            loss = torch.stack([self._distillation_loss(clips) for clips in sets]).mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            self._step(optimizer, self.student)
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
        """One update of the policy on all rollouts of all ranks, `micro_batch_size` of them in memory at a time."""
        size = self.spec.micro_batch_size or len(rollouts.tokens)
        logs: dict[str, Tensor] = {}
        optimizer.zero_grad()
        for first in range(0, len(rollouts.tokens), size):
            loss, parts = self.loss(rollouts, credit, slice(first, first + size), old)
            self.manual_backward(loss)
            logs = {name: logs.get(name, 0) + value.detach() for name, value in parts.items()}
        average_gradients(self.policy.parameters())
        self._step(optimizer, self.policy)
        return logs

    def _step(self, optimizer: LightningOptimizer, module: nn.Module) -> None:
        """One step along the gradients of `module`."""
        if self.spec.training.gradient_clip > 0:
            nn.utils.clip_grad_norm_(module.parameters(), self.spec.training.gradient_clip)
        optimizer.step()


def _key(name: str) -> str:
    """A parameter's name as a key of a ParameterDict, whose keys must not contain dots."""
    return name.replace(".", "/")


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    """Mean entropy of the token distributions, in nats."""
    distribution = (logits.detach().float() / temperature).log_softmax(-1)
    return -(distribution.exp() * distribution).sum(-1).mean()
