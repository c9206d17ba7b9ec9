"""Fine-tuning the vision-language judge: labelled clips, and the Lightning module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from roboalign.judge.prompt import target_answer
from roboalign.judge.qwen3_vl import ClipPrompt, Qwen3VLJudge, make_clip_prompt
from roboalign.judge.qwen3_vl_spec import Qwen3VLJudgeSpec
from roboalign.optimizer import build_optimizer
from roboalign.reward.dimensions import ABSOLUTE, FAITHFUL
from roboalign.reward.spec import RewardSpec
from roboalign.trained_module import Loss, TrainedModule


@dataclass(frozen=True, slots=True)
class LabelledClip:
    """A clip with its labels."""

    video: Tensor
    """Frames (T, 3, H, W), uint8."""
    instruction: str
    actions: Tensor | None
    """Actions (T - 1, A) in [-1, 1]; a judge that is given actions needs them."""
    labels: Tensor
    """Raw scores (2, D): ABSOLUTE, FAITHFUL. FAITHFUL ones are read by a judge that is given actions only."""


class LabelledClipDataset(Dataset[dict[str, Any]]):
    """Prompts and target answers of labelled clips, which may be a sequence that makes its clips when they are read.

    An item holds `frames` (spec.frames, 3, h, w) uint8 and `frame_numbers` (spec.frames,), both padded at the end of
    shorter clips (numbers by -1), and the texts `system`, `user` and `answer`.
    """

    def __init__(self, spec: Qwen3VLJudgeSpec, reward: RewardSpec, clips: Sequence[LabelledClip]) -> None:
        self.spec, self.reward, self.clips = spec, reward, clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip, spec = self.clips[index], self.spec
        with_actions = "actions" in spec.inputs
        if with_actions and clip.actions is None:
            raise ValueError(f"clip {index} has no actions, which judge.inputs names; remove them there")
        prompt = make_clip_prompt(spec, self.reward, clip.video, clip.instruction, clip.actions)
        frames = torch.zeros(spec.frames, 3, *spec.image_size, dtype=torch.uint8)
        frames[: len(prompt.frames)] = prompt.frames
        numbers = torch.full((spec.frames,), -1)
        numbers[: len(prompt.frames)] = torch.tensor(prompt.frame_numbers)
        return {
            "frames": frames,
            "frame_numbers": numbers,
            "system": prompt.system,
            "user": prompt.user,
            "answer": target_answer(
                self.reward,
                clip.labels[ABSOLUTE].tolist(),
                clip.labels[FAITHFUL].tolist() if with_actions else None,
                rationale=spec.rationale,
            ),
        }


def prompts_of(batch: Mapping[str, Any]) -> list[ClipPrompt]:
    """The prompts of a batch of LabelledClipDataset, without their padding."""
    prompts = []
    for frames, numbers, system, user in zip(
        batch["frames"].cpu(), batch["frame_numbers"].tolist(), batch["system"], batch["user"], strict=True
    ):
        shown = tuple(number for number in numbers if number >= 0)
        prompts.append(ClipPrompt(system, user, frames[: len(shown)], shown))
    return prompts


class Qwen3VLJudgeModule(TrainedModule):
    """Supervised fine-tuning of the LoRA matrices on target answers."""

    # Not TRL's SFTTrainer: a second loop beside Lightning's, with pickled checkpoints and batches not drawn by step.

    def __init__(self, judge: Qwen3VLJudge) -> None:
        super().__init__()
        self.judge = judge

    def training_step(self, batch: dict[str, Any], index: int) -> None:
        """One update on the answers of a batch."""
        tokens = sum(len(tokens) for tokens in self.judge.answer_tokens(batch["answer"]))
        total = self.mean_over_shards(torch.tensor(float(tokens), device=self.device))
        self.optimize(batch, lambda part: self.answers_loss(part, total))

    def answers_loss(self, batch: dict[str, Any], tokens: Tensor) -> Loss:
        """The loss of answers of `tokens` tokens in all."""
        loss = self.judge.loss(prompts_of(batch), batch["answer"], tokens)
        return loss, {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer of the LoRA matrices."""
        trained = ((name, value) for name, value in self.judge.named_parameters() if value.requires_grad)
        return build_optimizer(trained, self.judge.spec.training)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The LoRA matrices: the base model does not change and would make scratch checkpoints large."""
        return dict(self.judge.adapter_state())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Set the LoRA matrices."""
        self.judge.load_adapter_state(dict(state_dict))
