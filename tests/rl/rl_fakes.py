"""A world of pictures of one grey level: CODES tokens, each its own brightness, which is also the reward."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from roboalign.rl.distillation import BenchClips, Ring, Scored
from roboalign.rl.lit import GRPOModule, Surroundings
from roboalign.rl.prompts import Prompts
from roboalign.rl.spec import DistillationSpec, MeasureSpec, RLSpec
from roboalign.spec.training import TrainingSpec
from roboalign.store import Corpus
from roboalign.types import Episode

CODES, PLACES, SIDE, DIMENSIONS = 5, 2, 8, 3


@dataclass
class ToyContext:
    tokens: Tensor
    size: int

    def repeat(self, n: int) -> "ToyContext":
        return ToyContext(self.tokens.repeat_interleave(n, 0), self.size)


class ToyTokenizer:
    def encode_context(self, frames: Tensor) -> ToyContext:
        return ToyContext((frames.mean((1, 2, 3)) * (CODES - 1)).round().long()[:, None], frames.shape[-1])

    def decode(self, context: ToyContext, tokens: Tensor) -> Tensor:
        levels = tokens.float().mean(-1) / (CODES - 1)
        return levels[..., None, None, None].expand(*levels.shape, 3, context.size, context.size)


class ToyPolicy(nn.Module):
    """Each token depends on the context and the action alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.context = nn.Embedding(CODES, 8)
        self.action = nn.Linear(width, 8)
        self.head = nn.Linear(8, PLACES * CODES)

    def forward(self, context: Tensor, dynamics: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        hidden = torch.tanh(self.context(context) + self.action(actions * mask[:, None]))
        return self.head(hidden).unflatten(-1, (PLACES, CODES))


class ToyStudent(nn.Module):
    """Linear in the mean brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(1, DIMENSIONS)
        self.hide = nn.Dropout(0.2)

    def forward(self, videos: Tensor, instructions: Sequence[str]) -> Tensor:
        return self.score(self.hide(videos[:, 1:].mean((1, 2, 3, 4))[:, None]))


def teacher(videos: Tensor, instructions: Sequence[str]) -> Tensor:
    return videos[:, 1:].mean((1, 2, 3, 4))[:, None] * torch.tensor([1.0, 2.0, 3.0])


def spec(steps: int = 6, **changes: object) -> RLSpec:
    training = TrainingSpec(
        steps=steps, batch=2, learning_rate=5e-2, warmup=0, weight_decay=0.0, checkpoint_every=2, log_every=1
    )
    distillation = DistillationSpec(every=2, rollouts=4, steps=2, batch=4, capacity=6, learning_rate=1e-2)
    fields: dict[str, object] = {"group": 4, "horizon": 3, "training": training, "distillation": distillation}
    return RLSpec.model_validate(fields | {"measure": MeasureSpec(prompts=4)} | changes)


def draw_from(policy: nn.Module, temperature: float = 1.0):  # type: ignore[no-untyped-def]
    def draw(context: Tensor, actions: Tensor, mask: Tensor, seeds: Tensor, groups: int) -> Tensor:
        rows = (context, context, actions, mask)
        with torch.no_grad():
            logits = policy(*(row.repeat_interleave(groups, 0) for row in rows)) / temperature
        noise = torch.stack(
            [torch.rand(logits.shape[1:], generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        )
        return (logits - (-noise.log()).log()).argmax(-1)

    return draw


def bench() -> BenchClips:
    """Three clips that nobody rolled out, of two lengths, both longer than rollouts."""
    videos = [torch.full((length, 3, 32, 32), 60 * length - 200, dtype=torch.uint8) for length in (6, 7, 6)]
    return BenchClips(videos, ["push", "pull", "push"], teacher)


def module(rl: RLSpec, episodes: Sequence[Episode]) -> tuple[GRPOModule, Prompts]:
    """A freshly initialised module and its prompts."""
    prompts = Prompts(Corpus.of([e for e in episodes if e.split == "train"]), rl.horizon, rl.stride)
    torch.manual_seed(0)
    policy, reference, student = ToyPolicy(4), ToyPolicy(4), ToyStudent()
    reference.load_state_dict(policy.state_dict())

    def loss(clips: Scored) -> Tensor:
        return nn.functional.huber_loss(student(clips.videos, clips.instructions), clips.scores)

    around = Surroundings(
        tokenizer=ToyTokenizer(),
        reference=reference.requires_grad_(False),
        draw=draw_from(policy, rl.temperature),
        reward=lambda videos, words, targets: teacher(videos, words).sum(1),
        instruction=prompts.instruction,
        teacher=teacher,
        student_loss=loss,
        bench=bench(),
    )
    distils = rl.distillation
    ring = None if distils is None else Ring(distils.capacity, (rl.horizon + 1, 3, 32, 32), DIMENSIONS)
    return GRPOModule(rl, policy, student, ring, around), prompts
