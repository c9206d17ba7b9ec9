"""The reward model that judge and student share: maps a clip, its instruction and its actions to scores.

    model = RewardModel(spec, reward, vocabulary, action_width=4, eyes=probe, outcome=outcome)
    scores = model.sample(videos, instructions, actions)        # (S, B, 2, D), raw

A frozen state probe, `eyes`, perceives gripper, object and goal in frames of scenes that it knows. A transformer reads
the words of the instruction and one token for each frame: the perceived state, the actions since the frame before, and
the state that an outcome model predicts from the actions. Each ensemble member has its own transformer and reads one
member of the probe.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from roboalign import checkpoint
from roboalign.probe.model import Perception, Probe
from roboalign.probe.outcome import OutcomeModel
from roboalign.probe.spec import OutcomeSpec, PerceptionSpec
from roboalign.reward.appearance import AppearanceEncoder
from roboalign.reward.dimensions import denormalise
from roboalign.reward.frames import PROFILE, motion_profile, pixels
from roboalign.reward.observation import Observation
from roboalign.reward.spec import EncoderSpec, RewardSpec
from roboalign.reward.state_features import (
    IMAGE_FEATURES,
    STATE_FEATURES,
    TIME_FEATURES,
    FrameSample,
    action_features,
    image_features,
    sample_frames,
    state_features,
    time_features,
)
from roboalign.reward.text import TextEncoder, Vocabulary, transformer
from roboalign.spec.base import Spec
from roboalign.types import Json

SpecT = TypeVar("SpecT", bound=Spec)
ModelT = TypeVar("ModelT", bound="RewardModel")


class RewardEncoder(nn.Module):
    """One transformer of the ensemble: maps observations and words to normalised scores."""

    def __init__(
        self, spec: EncoderSpec, vocabulary: int, action_width: int, outputs: int, head_width: int | None
    ) -> None:
        super().__init__()
        self.spec = spec
        size = STATE_FEATURES + IMAGE_FEATURES + TIME_FEATURES + (2 * action_width if "actions" in spec.inputs else 0)
        self.enter = nn.Sequential(nn.Linear(size, spec.width), nn.GELU(), nn.Linear(spec.width, spec.width))
        self.places = nn.Parameter(torch.randn(spec.frames, spec.width) * 0.02)
        self.summary = nn.Parameter(torch.randn(1, spec.width) * 0.02)
        self.motion = nn.Sequential(nn.Linear(PROFILE, spec.width), nn.GELU(), nn.Linear(spec.width, spec.width))
        text = spec.text
        self.text = TextEncoder(vocabulary, text.words, spec.width, text.layers, spec.heads, text.hidden_words)
        self.appearance = None if spec.appearance is None else AppearanceEncoder(spec.appearance, spec.width)
        self.body = transformer(spec.width, spec.layers, spec.heads, spec.dropout)
        head = nn.Linear(spec.width if head_width is None else head_width, outputs)
        nn.init.constant_(head.bias, 0.5)  # the middle of the normalised range
        hidden = () if head_width is None else (nn.Linear(spec.width, head_width), nn.GELU())
        self.head = nn.Sequential(*hidden, head)

    def forward(self, observation: Observation, member: int, words: Tensor) -> Tensor:
        """Normalised scores (B, outputs) by probe member `member`, for words (B, L).

        They are not limited to [0, 1]: many targets are exactly 1, where a sigmoid would saturate.
        """
        states, rest = observation.states[member], observation.rest
        if self.training and self.spec.scene_dropout > 0:
            hidden = torch.rand(len(states), 1, 1, device=states.device) < self.spec.scene_dropout
            states = states.masked_fill(hidden, 0)
            known = rest[..., -1:].masked_fill(hidden, 0)
            rest = torch.cat([rest[..., :-1], known], -1)
        frames = self.enter(torch.cat([states, rest], -1)) + self.places[: states.shape[1]]
        text, empty = self.text(words)
        if "text" not in self.spec.inputs:
            empty = torch.ones_like(empty)
        tokens = [self.summary.expand(len(frames), 1, -1), self.motion(observation.motion).unsqueeze(1)]
        hidden_tokens = [torch.zeros(len(frames), 2, dtype=torch.bool, device=frames.device)]
        if self.appearance is not None and observation.videos is not None and observation.lengths is not None:
            tokens.append(self.appearance(observation.videos, observation.lengths))
            hidden_tokens.append(torch.zeros(tokens[-1].shape[:2], dtype=torch.bool, device=frames.device))
        mask = torch.cat([*hidden_tokens, ~observation.valid, empty], 1)
        features = self.body(torch.cat([*tokens, frames, text], 1), src_key_padding_mask=mask)
        scores: Tensor = self.head(features[:, 0])
        return scores


class RewardModel(nn.Module):
    """An ensemble of `RewardEncoder`s over one frozen state probe, through which gradients reach the pixels."""

    def __init__(
        self,
        spec: EncoderSpec,
        reward: RewardSpec,
        vocabulary: Vocabulary,
        action_width: int,
        eyes: Probe,
        outcome: OutcomeModel,
        *,
        members: int = 1,
        head_width: int | None = None,
        batch_size: int = 32,
    ) -> None:
        """Build an untrained reward model.

        Args:
            spec: The encoder.
            reward: The dimensions.
            vocabulary: The known words.
            action_width: A, number of action dimensions.
            eyes: The state probe; it is frozen.
            outcome: Predicts states from actions; it is frozen.
            members: Number of ensemble members.
            head_width: Width of the head's hidden layer; None for a linear head.
            batch_size: Clips scored at once; does not change the scores.
        """
        super().__init__()
        self.encoder_spec, self.reward, self.vocabulary = spec, reward, vocabulary
        self.action_width, self.batch_size = action_width, batch_size
        self.eyes, self.outcome = eyes.requires_grad_(False).eval(), outcome.requires_grad_(False)
        outputs = 2 * len(reward.dimensions)
        self.members = nn.ModuleList(
            RewardEncoder(spec, len(vocabulary), action_width, outputs, head_width) for _ in range(members)
        )

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the transformers; the probe stays in evaluation mode, without dropout."""
        super().train(mode)
        self.eyes.eval()
        return self

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        weight = self.members[0].places
        assert isinstance(weight, Tensor)
        return weight.device

    def perceive(self, frames: Tensor, tasks: Tensor) -> list[Perception]:
        """The perception of each probe member in frames (B, K, 3, H, W) in [0, 1] of `tasks` (B,), -1 if unknown."""
        return [self.eyes.perceive(frames, tasks.clamp(min=0), index) for index in range(len(self.eyes.members))]

    def identify(self, first: Tensor) -> Tensor:
        """The tasks (B,) of clips by their first frames (B, 3, H, W) in [0, 1]; -1 if the probe has no such scene."""
        if not self.eyes.tasks or tuple(first.shape[-2:]) != self.eyes.size:
            return torch.full((len(first),), -1, device=first.device)
        return self.eyes.scenes.identify(first)

    def features(self, perceptions: Sequence[Perception], tasks: Tensor, expected: Tensor | None) -> Tensor:
        """State features (E, B, K, STATE_FEATURES) of the perceptions of E probe members; 0 for unknown tasks (-1).

        `expected` (B, K, 14) are the states that the actions lead to; None if the actions are not known.
        """
        forces = self.eyes.scenes.forces[tasks.clamp(min=0)]
        known = (tasks >= 0).view(-1, 1, 1)
        rows = [
            state_features(p.states, p.points, p.peaks, forces, p.states.detach() if expected is None else expected)
            for p in perceptions
        ]
        return torch.stack(rows) * known

    @torch.no_grad()
    def expect(self, first: Tensor, actions: Tensor | None, sample: FrameSample, tasks: Tensor) -> Tensor | None:
        """The states (B, K, 14) that the outcome model predicts at the sampled frames; None without actions.

        Args:
            first: Perceived states (B, 14) of the first frames.
            actions: (B, T - 1, A) in [-1, 1].
            sample: The sampled frames.
            tasks: (B,).
        """
        if actions is None or "actions" not in self.encoder_spec.inputs:
            return None
        states: Tensor = self.outcome(first, actions.to(first), tasks.clamp(min=0))
        return states[torch.arange(len(states), device=states.device).unsqueeze(1), sample.indices]

    def rest(
        self, videos: Tensor, lengths: Tensor, actions: Tensor | None, sample: FrameSample, tasks: Tensor
    ) -> Tensor:
        """Image, action and time features (B, K, R) of videos (B, T, 3, H, W) in [0, 1], without gradients."""
        parts = [image_features(videos.detach(), sample)]
        if "actions" in self.encoder_spec.inputs:
            if actions is None:
                actions = videos.new_zeros(len(videos), max(1, videos.shape[1] - 1), self.action_width)
            parts.append(action_features(actions.to(videos), sample))
        return torch.cat([*parts, time_features(lengths, sample, tasks >= 0)], -1)

    def observe(
        self, videos: Tensor, actions: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Observation:
        """Compute the transformers' inputs, with gradients to the pixels through the probe.

        Args:
            videos: (B, T, 3, H, W), uint8 or in [0, 1].
            actions: (B, T - 1, A) in [-1, 1], leading to frames 1 ... T - 1; None if they are not known.
            generator: If set, shifts the frames sampled from long clips at random.

        Raises:
            ValueError: `actions` has another shape.
        """
        videos = pixels(videos.to(self.device))
        if actions is not None and actions.shape[1:] != (videos.shape[1] - 1, self.action_width):
            raise ValueError(
                f"clips of {videos.shape[1]} frames take actions of shape {(videos.shape[1] - 1, self.action_width)}, "
                f"not {tuple(actions.shape[1:])}"
            )
        lengths = torch.full((len(videos),), videos.shape[1], device=videos.device)
        sample = sample_frames(lengths, self.encoder_spec.frames, generator)
        tasks = self.identify(videos[:, 0].detach())
        if (tasks >= 0).any():
            frames = videos[torch.arange(len(videos), device=videos.device).unsqueeze(1), sample.indices]
            perceptions = self.perceive(frames, tasks)
            first = torch.stack([perception.states[:, 0] for perception in perceptions]).mean(0).detach()
            states = self.features(perceptions, tasks, self.expect(first, actions, sample, tasks))
        else:
            states = videos.new_zeros(max(1, len(self.eyes.members)), *sample.indices.shape, STATE_FEATURES)
        rest = self.rest(videos, lengths, actions, sample, tasks)
        motion = motion_profile(videos.detach(), lengths)
        appearance = self.encoder_spec.appearance is not None
        return Observation(
            states, rest, sample.valid, motion, videos.detach() if appearance else None, lengths if appearance else None
        )

    def predict(self, observation: Observation, words: Tensor, member: int) -> Tensor:
        """Normalised scores (B, 2, D) by one ensemble member, with gradients; absolute, then faithful; not clipped."""
        scores: Tensor = self.members[member](observation, member % len(observation.states), words)
        return scores.view(len(scores), 2, -1)

    def differentiable(
        self,
        videos: Tensor,
        instructions: Sequence[str],
        actions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Raw scores (B, 2, D), the mean over members, with gradients to the pixels; arguments as in `observe`.

        Scores are clipped to their range, but the gradient is passed through the clipping (straight-through).
        """
        observation = self.observe(videos, actions, generator)
        words = self.vocabulary.encode(instructions).to(self.device)
        scores = torch.stack([self.predict(observation, words, m) for m in range(len(self.members))]).mean(0)
        return denormalise(scores + (scores.clamp(0, 1) - scores).detach(), self.reward)

    @torch.no_grad()
    def sample(self, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
        """Raw scores (S, B, 2, D) by each of the S members; see `Scorer.sample`."""
        rows = []
        for start in range(0, len(videos), self.batch_size):
            part = slice(start, start + self.batch_size)
            observation = self.observe(videos[part], None if actions is None else actions[part])
            words = self.vocabulary.encode(instructions[part]).to(self.device)
            scores = torch.stack([self.predict(observation, words, m) for m in range(len(self.members))])
            rows.append(denormalise(scores.clamp(0, 1), self.reward))
        return torch.cat(rows, 1)

    def forward(self, videos: Tensor, instructions: Sequence[str], actions: Tensor | None = None) -> Tensor:
        """The mean of the members' raw scores (B, 2, D), without gradients; absolute, then faithful."""
        return self.sample(videos, instructions, actions).mean(0)


def save_reward_model(path: Path, model: RewardModel, spec: Spec, provenance: str) -> None:
    """Write a reward model to a checkpoint.

    The metadata holds the part's `spec`, the reward, the vocabulary, and the specs of the probe and outcome model.
    """
    eyes = model.eyes
    checkpoint.save_model(
        path,
        model,
        spec,
        provenance,
        reward=model.reward.model_dump(mode="json"),
        vocabulary={"known": list(model.vocabulary.known), "length": model.vocabulary.length},
        action_width=model.action_width,
        outcome={
            "spec": model.outcome.spec.model_dump(mode="json"),
            "tasks": model.outcome.task.num_embeddings,
        },
        eyes={
            "spec": eyes.spec.model_dump(mode="json"),
            "tasks": [list(t) for t in eyes.tasks],
            "size": list(eyes.size),
        },
    )


def read_reward(metadata: Mapping[str, Json]) -> RewardSpec:
    """The reward in the metadata of a reward model's checkpoint. Raises KeyError, TypeError or ValueError."""
    return RewardSpec.model_validate_json(json.dumps(metadata["reward"]))


def read_vocabulary(metadata: Mapping[str, Json]) -> Vocabulary:
    """The vocabulary in the metadata of a reward model's checkpoint. Raises KeyError, TypeError or ValueError."""
    words = metadata["vocabulary"]
    return Vocabulary(tuple(map(str, words["known"])), int(words["length"]))


def load_reward_model(
    path: Path, kind: type[SpecT], make: Callable[[SpecT, RewardSpec, Vocabulary, int, Probe, OutcomeModel], ModelT]
) -> ModelT:
    """The reward model in a file, frozen, in evaluation mode.

    Args:
        path: A file that `save_reward_model` wrote.
        kind: The part's spec class.
        make: Makes the untrained model of a spec, a reward, a vocabulary, an action width, eyes and an outcome model:
            the model's class.

    Raises:
        CheckpointError: The file is damaged or foreign.
    """

    def build(metadata: dict[str, Json]) -> ModelT:
        eyes, outcome = metadata["eyes"], metadata["outcome"]
        tasks = [(str(source), str(task)) for source, task in eyes["tasks"]]
        size, width = (int(eyes["size"][0]), int(eyes["size"][1])), int(metadata["action_width"])
        return make(
            checkpoint.read_spec(metadata, kind),
            read_reward(metadata),
            read_vocabulary(metadata),
            width,
            Probe(checkpoint.read_spec(eyes, PerceptionSpec), tasks, size),
            OutcomeModel(checkpoint.read_spec(outcome, OutcomeSpec), int(outcome["tasks"]), width),
        )

    return checkpoint.load_model(path, build).requires_grad_(False).eval()
