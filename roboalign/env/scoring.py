"""Rewards of whole clips by the student or the judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from roboalign.io import find_output
from roboalign.pipeline.judges import load_judge
from roboalign.reward.dimensions import VARIANTS, Scorer, mean_scores, weighted_total
from roboalign.reward.spec import ScoreVariant
from roboalign.student.model import load_student
from roboalign.types import Float32, UInt8


class ClipScorer:
    """The alignment reward R = sum_k w_k g_k (paper) of clips, by a scorer of the experiment."""

    def __init__(self, scorer: Scorer, variant: ScoreVariant, action_width: int, device: torch.device) -> None:
        self.scorer, self.variant, self.action_width, self.device = scorer, variant, action_width, device

    def score(self, clips: UInt8, instructions: Sequence[str], actions: Float32) -> NDArray[np.float64]:
        """Rewards (B,) of clips (B, T, H, W, 3) under normalised actions (B, T - 1, A)."""
        videos = torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 1, 4, 2, 3))).to(self.device)
        missing = self.action_width - actions.shape[-1]
        padded = torch.from_numpy(np.pad(actions, ((0, 0), (0, 0), (0, missing)))).to(self.device)
        with torch.no_grad():
            scores = mean_scores(self.scorer, videos, list(instructions), padded)[:, VARIANTS[self.variant]]
        result: NDArray[np.float64] = weighted_total(scores, self.scorer.reward).double().cpu().numpy()
        return result


def load_clip_scorer(
    root: Path, name: Literal["student", "judge"], variant: ScoreVariant, action_width: int, device: str
) -> ClipScorer:
    """The reward by the student or the judge of an experiment. Raises StageError if its file is missing."""
    path = find_output(root, f"artifacts/{name}/model.safetensors")
    scorer: Scorer = load_student(path).to(device) if name == "student" else load_judge(path, device, root)
    return ClipScorer(scorer, variant, action_width, torch.device(device))
