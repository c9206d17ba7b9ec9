"""A world of pictures of one grey level: CODES tokens, each its own brightness, which is also the reward."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor, nn

from roboalign.probe.model import Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.probe.spec import OutcomeSpec, PerceptionSpec
from roboalign.reward.dimensions import normalise
from roboalign.reward.observation import SetBatch, make_set
from roboalign.reward.rewards import Rollouts, mse_by_frame
from roboalign.reward.spec import DimensionSpec, EncoderSpec, ManipulationSpec, RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.rl.guard import Check
from roboalign.rl.interfaces import RolloutFn
from roboalign.rl.lit import AlignmentComponents, AlignmentModule
from roboalign.rl.prompts import Prompts
from roboalign.rl.replay_buffer import ReplayBuffer
from roboalign.rl.spec import AlignmentMeasureSpec, DistillationSpec, RLSpec
from roboalign.rollout.spec import ArSpec, SwrSpec
from roboalign.spec.training import TrainingSpec
from roboalign.store import Corpus
from roboalign.student.model import Student
from roboalign.student.spec import StudentSpec
from roboalign.types import Episode

CODES, PLACES, SIDE, WIDTH = 5, 2, 32, 4

REWARD = RewardSpec(
    dimensions={
        name: DimensionSpec(max_score=points, group="g", rubric="r", labeller=ManipulationSpec(kind="manipulation"))
        for name, points in (("dark", 1.0), ("bright", 2.0))
    }
)


@dataclass
class ToyContext:
    tokens: Tensor
    size: int

    def select(self, rows: Tensor) -> "ToyContext":
        return ToyContext(self.tokens[rows], self.size)


class ToyTokenizer:
    """Code c has the value c / (CODES - 1); a frame is as bright as the mean value of its tokens."""

    def encode_context(self, frames: Tensor) -> ToyContext:
        return ToyContext((frames.mean((1, 2, 3)) * (CODES - 1)).round().long()[:, None], frames.shape[-1])

    def code_values(self, tokens: Tensor) -> Tensor:
        return tokens[..., None].float() / (CODES - 1)

    def decode_values(self, context: ToyContext, values: Tensor) -> Tensor:
        levels = values.mean((-1, -2))
        return levels[..., None, None, None].expand(*levels.shape, 3, context.size, context.size)


class ToyPolicy(nn.Module):
    """Each token depends on the context and the action alone."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = SimpleNamespace(dynamics_codes=CODES)
        self.context = nn.Embedding(CODES, 8)
        self.action = nn.Linear(WIDTH, 8)
        self.head = nn.Linear(8, PLACES * CODES)

    def forward(self, context: Tensor, dynamics: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        shared = self.context(context).repeat_interleave(len(actions) // len(context), 0)
        hidden = torch.tanh(shared + self.action(actions * mask[:, None]))
        logits: Tensor = self.head(hidden).unflatten(-1, (PLACES, CODES))
        return logits


def brightness(rollouts: Rollouts) -> Tensor:
    """The reward: the mean brightness of the predicted frames, times 6."""
    return 6 * rollouts.videos[:, 1:].mean((1, 2, 3, 4))


def judge(videos: Tensor) -> Tensor:
    """Raw scores (B, 2, D): darkness and brightness, absolute and faithful alike."""
    level = videos[:, 1:].mean((1, 2, 3, 4))
    return torch.stack([1 - level, 2 * level], 1)[:, None].repeat(1, 2, 1)


def toy_student(dropout: bool = True) -> Student:
    """An untrained student whose eyes know no scene."""
    fields = {"width": 8, "layers": 1, "heads": 2, "frames": 3}
    without = {"dropout": 0.0, "text": {"hidden_words": 0.0}}
    spec = StudentSpec(
        encoder=EncoderSpec.model_validate(fields if dropout else fields | without),
        set_size=2,
        training=training(1),
    )
    eyes = Probe(PerceptionSpec(widths=(8, 8), hidden_size=8), [], (SIDE, SIDE))
    outcome = OutcomeModel(outcome_spec(), 0, WIDTH)
    return Student(spec, REWARD, Vocabulary.of(["push it"], 16), WIDTH, eyes, outcome)


def outcome_spec() -> OutcomeSpec:
    return OutcomeSpec(hidden_size=8, length=4, training=training(1))


def training(steps: int, **changes: object) -> TrainingSpec:
    fields: dict[str, object] = {
        "steps": steps, "batch_size": 2, "learning_rate": 5e-2, "warmup_steps": 0, "weight_decay": 0.0,
        "checkpoint_every": 2, "log_every": 1,
    }  # fmt: skip
    return TrainingSpec.model_validate(fields | changes)


def spec(steps: int = 6, **changes: object) -> RLSpec:
    distillation = DistillationSpec(every=2, steps=2, sets=2, capacity=12, bench_clips=4, learning_rate=1e-2)
    fields: dict[str, object] = {
        "group_size": 4, "horizon": 3, "decoding": {"kind": "ar"}, "training": training(steps), "kl_coef": 0.0,
        "distillation": distillation, "guard": None, "measure": AlignmentMeasureSpec(prompts=4),
    }  # fmt: skip
    return RLSpec.model_validate(fields | changes)


def window_segments(horizon: int, window: int | None) -> list[tuple[int, int]]:
    """The segments of plain autoregression, or of SWR with a window."""
    return (ArSpec() if window is None else SwrSpec(window=window)).segments(horizon)


def make_rollout(policy: nn.Module, window: int | None = None, temperature: float = 1.0) -> RolloutFn:
    """Draws from the policy; each window goes on from the frame before it."""
    tokenizer = ToyTokenizer()

    @torch.no_grad()
    def roll(frames: Tensor, actions: Tensor, mask: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        made, drawn, last = [], [], frames
        for number, (start, stop) in enumerate(window_segments(actions.shape[1], window)):
            context = tokenizer.encode_context(last)
            logits = policy(context.tokens, context.tokens, actions[:, start:stop], mask)
            generators = (torch.Generator().manual_seed(int(seed) % 2**40 + number) for seed in seeds)
            noise = torch.stack([torch.rand(logits.shape[1:], generator=generator) for generator in generators])
            tokens = (logits - temperature * (-noise.log()).log()).argmax(-1)
            made.append(tokenizer.decode_values(context, tokenizer.code_values(tokens)))
            drawn.append(tokens)
            last = made[-1][:, -1]
        return torch.cat(made, 1), torch.cat(drawn, 1)

    return roll


def bench(student: Student) -> list[SetBatch]:
    """Two groups of clips that nobody rolled out."""
    return [observe_toy_clips(student, torch.rand(2, 5, 3, SIDE, SIDE, generator=seeded(n))) for n in range(2)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observe_toy_clips(student: Student, videos: Tensor, actions: Tensor | None = None) -> SetBatch:
    """Clips as the student reads them, scored by `judge`."""
    given = torch.zeros(len(videos), videos.shape[1] - 1, WIDTH) if actions is None else actions
    words = student.vocabulary.encode(["push it"] * len(videos))
    return make_set(student.observe(videos, given), words, torch.as_tensor(normalise(judge(videos), REWARD)).float())


def module(
    rl: RLSpec,
    episodes: Sequence[Episode],
    *,
    reward: Callable[[Rollouts], Tensor] = brightness,
    check: Callable[[nn.Module, int], Check] | None = None,
    sharded: bool = False,
    dropout: bool = True,
) -> tuple[AlignmentModule, Prompts]:
    """A freshly initialised module and its prompts; `sharded` if the weights of its policy will be; `dropout` is that
    of the student."""
    prompts = Prompts(Corpus.of([e for e in episodes if e.split == "train"]), rl.horizon, rl.stride)
    torch.manual_seed(0)
    policy, reference, student = ToyPolicy(), ToyPolicy(), toy_student(dropout)
    reference.load_state_dict(policy.state_dict())
    sampled = deepcopy(policy).requires_grad_(False) if sharded else policy
    buffer = None
    if rl.distillation is not None:
        one = observe_toy_clips(student, torch.zeros(1, rl.horizon + 1, 3, SIDE, SIDE))
        like = {name: value[0] for name, value in cast(dict[str, Tensor], one).items()}
        buffer = ReplayBuffer(rl.distillation.capacity, like)
    components = AlignmentComponents(
        tokenizer=ToyTokenizer(),
        reference=reference.requires_grad_(False),
        rollout=make_rollout(sampled, getattr(rl.decoding, "window", None), rl.temperature),
        greedy_rollout=make_rollout(sampled, getattr(rl.decoding, "window", None), 0.0),
        sampled_policy=sampled if sharded else None,
        reward=reward,
        reward_by_frame=mse_by_frame if rl.reward.kind == "mse" else None,
        observe=lambda rollouts: observe_toy_clips(student, rollouts.videos, rollouts.actions),
        bench=[] if buffer is None else bench(student),
        check=None if check is None else lambda step: check(cast(nn.Module, sampled), step),
    )
    return AlignmentModule(rl, policy, student, prompts, components, buffer), prompts
