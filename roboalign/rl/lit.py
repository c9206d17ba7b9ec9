"""The training step of alignment: roll out in groups, reward, update; now and then distil the student online."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from roboalign.optimizer import Muon, in_a_layer, optimizer
from roboalign.rl.advantage import group_advantage
from roboalign.rl.distillation import BenchClips, Ring, Scored, StudentLoss, draw_indices, spread
from roboalign.rl.grpo import grpo, token_log_probabilities
from roboalign.rl.interfaces import Draw, Reward, Score, Tokenizer
from roboalign.rl.prompts import Item
from roboalign.rl.spec import RLSpec
from roboalign.training import TrainedModule, fold


@dataclass(frozen=True)
class Surroundings:
    """The frozen helpers of training. They are no modules of the trained one, so that no checkpoint holds them."""

    tokenizer: Tokenizer
    reference: nn.Module
    """The supervised world model, pi_0."""
    draw: Draw
    """Draws from the policy as it is."""
    reward: Reward
    """Asks the student as it is, where the reward is the distilled one."""
    instruction: Callable[[int], str]
    """The instruction of a prompt number."""
    teacher: Score | None = None
    student_loss: StudentLoss | None = None
    bench: BenchClips | None = None


class GRPOModule(TrainedModule):
    """Policy, student and the latest scored rollouts; everything else is in `surroundings`."""

    distillation_loss: Tensor

    def __init__(
        self, spec: RLSpec, policy: nn.Module, student: nn.Module, ring: Ring | None, surroundings: Surroundings
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.spec, self.policy, self.student, self.ring, self.around = spec, policy, student, ring, surroundings
        self.student.requires_grad_(ring is not None)
        # A buffer, so that the curve of a resumed run repeats the value of the last round as an unbroken one does.
        self.register_buffer("distillation_loss", torch.zeros(()))

    def configure_optimizers(self) -> list[Muon]:
        training = self.spec.training
        optimizers = [optimizer(self.policy.named_parameters(), training, hidden=in_a_layer)]
        if self.spec.distillation is not None:
            scale = self.spec.distillation.learning_rate / training.learning_rate
            optimizers.append(optimizer(self.student.named_parameters(), training, scale=scale))
        return optimizers

    def training_step(self, batch: Item, index: int) -> None:
        spec, around = self.spec, self.around
        self.student.eval()
        prompts = len(batch["prompt"])
        words = [around.instruction(int(number)) for number in batch["prompt"] for _ in range(spec.group)]
        with torch.no_grad():
            context = around.tokenizer.encode_context(batch["frames"][:, 0])
            seeds = [
                fold(spec.training.seed, self.step, 3, self.global_rank, row) for row in range(prompts * spec.group)
            ]
            tokens = around.draw(
                context.tokens,
                batch["actions"],
                batch["action_mask"],
                torch.tensor(seeds, device=self.device),
                spec.group,
            ).clone()
            frames = around.tokenizer.decode(context.repeat(spec.group), tokens)
            targets = batch["frames"].repeat_interleave(spec.group, 0)
            videos = torch.cat([targets[:, :1], frames], 1)
            rewards = around.reward(videos, words, targets).view(prompts, spec.group)
            given = (
                context.tokens.repeat_interleave(spec.group, 0),
                tokens,
                batch["actions"].repeat_interleave(spec.group, 0),
                batch["action_mask"].repeat_interleave(spec.group, 0),
            )
            reference, _ = token_log_probabilities(around.reference(*given), tokens, spec.temperature)
        logs = self._update(given, reference, group_advantage(rewards, spec.least_spread).flatten())
        if spec.distillation is not None and (self.step + 1) % spec.distillation.every == 0:
            chosen = spread(spec.distillation.rollouts, len(videos)).to(videos.device)
            numbers = batch["prompt"].repeat_interleave(spec.group)[chosen]
            self._distil(videos[chosen], [words[row] for row in chosen.tolist()], numbers)
        logs |= {"reward": rewards.mean(), "reward_sd": rewards.std(1, correction=0).mean()}
        if spec.distillation is not None:
            logs["distillation_loss"] = self.distillation_loss
        self.log_dict(logs)

    def _update(
        self, given: tuple[Tensor, Tensor, Tensor, Tensor], reference: Tensor, advantage: Tensor
    ) -> dict[str, Tensor]:
        """The policy's updates on one set of rollouts; the logs of the last."""
        optimizers = self.optimizers()
        optimizer = optimizers[0] if isinstance(optimizers, list) else optimizers
        assert isinstance(optimizer, LightningOptimizer)
        old: Tensor | None = None
        logs: dict[str, Tensor] = {}
        for _ in range(self.spec.epochs):
            policy, entropy = token_log_probabilities(self.policy(*given), given[1], self.spec.temperature)
            old = policy.detach() if old is None else old
            parts = grpo(policy, old, reference, advantage, self.spec.clip, self.spec.kl)
            self._step(optimizer, parts.loss, self.policy)
            logs = {
                "loss": parts.loss.detach(),
                "kl": parts.kl,
                "clip_fraction": parts.clip_fraction,
                "entropy": entropy.mean(),
            }
        return logs

    def _distil(self, videos: Tensor, words: list[str], prompts: Tensor) -> None:
        """One round of online distillation on fresh rollouts of these prompts."""
        spec, around, ring = self.spec.distillation, self.around, self.ring
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        if spec is None or ring is None or around.teacher is None or around.student_loss is None:
            raise ValueError("online distillation needs a ring of rollouts, a teacher and the student's loss")
        with torch.no_grad():
            ring.add(videos, around.teacher(videos, words), prompts)
        known = round(spec.batch * spec.bench_share) if around.bench is not None and len(around.bench) else 0
        losses, distiller = [], optimizers[1]
        assert isinstance(distiller, LightningOptimizer)
        self.student.train()
        for number in range(spec.steps):
            generator = torch.Generator().manual_seed(fold(self.spec.training.seed, self.step, 4, number))
            parts: list[Scored] = []
            if known < spec.batch:
                parts.append(ring.batch(draw_indices(len(ring), spec.batch - known, generator), around.instruction))
            if known and around.bench is not None:
                parts.append(around.bench.batch(draw_indices(len(around.bench), known, generator).tolist()))
            # The mean over all clips; bench clips may be longer than rollouts, so the two are not stacked.
            loss = torch.stack([around.student_loss(part) * len(part.scores) for part in parts]).sum() / spec.batch
            self._step(distiller, loss, self.student)
            losses.append(loss.detach())
        self.student.eval()
        self.distillation_loss.copy_(torch.stack(losses).mean())

    def _step(self, optimizer: LightningOptimizer, loss: Tensor, module: nn.Module) -> None:
        """One update of `module`."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.spec.training.gradient_clip > 0:
            nn.utils.clip_grad_norm_(module.parameters(), self.spec.training.gradient_clip)
        optimizer.step()
