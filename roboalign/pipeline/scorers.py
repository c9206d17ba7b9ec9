"""The scorers of an experiment: judges, student and gold, loaded and applied to clips and rollouts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from roboalign.evaluation.clips import Clip
from roboalign.evaluation.scoring import GoldScorer, GoldScores
from roboalign.evaluation.spec import ScorerName
from roboalign.io import read_json
from roboalign.metrics.perceptual import build_perceptual
from roboalign.metrics.perceptual_spec import PerceptualSpec
from roboalign.metrics.video import psnr
from roboalign.pipeline.judges import load_judge
from roboalign.pipeline.students import load_student_to
from roboalign.probe.model import load_probe
from roboalign.reward.build import RewardModels
from roboalign.reward.dimensions import VARIANTS, Scorer, mean_scores
from roboalign.reward.gold import Gold
from roboalign.reward.model import RewardModel
from roboalign.reward.rewards import Rollouts
from roboalign.reward.rubric import limits_from_json
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run
from roboalign.store import Corpus
from roboalign.video import frames_to_video, quantise, video_to_frames

MODEL = "model.safetensors"


@dataclass(frozen=True)
class GoldFiles:
    """The files of the gold scores: of their state probe, and of the rubric's limits from probed true clips."""

    probe: Path
    limits: Path

    @classmethod
    def of(cls, run: Run) -> Self:
        """The files of the experiment."""
        return cls(
            run.input(f"artifacts/probe/gold/{MODEL}"), run.input("artifacts/bench/probed_limits/gold.json")
        )  # fmt: skip

    def load(self, reward: RewardSpec, device: torch.device) -> Gold:
        """The gold scores: the rubric over what the gold state probe perceives."""
        return Gold(load_probe(self.probe).to(device), reward, limits_from_json(read_json(self.limits)))


def open_scorer(name: ScorerName, path: Path, device: torch.device, root: Path = Path()) -> Scorer:
    """The learned scorer in a file of the experiment in `root`."""
    return load_student_to(path, device) if name == "student" else load_judge(path, device, root)


def load_scorer(run: Run, name: ScorerName, device: torch.device) -> Scorer:
    """A learned scorer of the experiment."""
    return open_scorer(name, run.input(f"artifacts/{name}/{MODEL}"), device, run.root)


def load_gold(run: Run, reward: RewardSpec, device: torch.device) -> Gold:
    """The gold scores of the experiment."""
    return GoldFiles.of(run).load(reward, device)


def load_reward_models(run: Run, reward: RewardSpec, student: RewardModel, device: torch.device) -> RewardModels:
    """The models that rewards of alignment use; `student` is the one that online distillation trains."""
    perceptual: PerceptualSpec = run.section("evaluation.perceptual", PerceptualSpec)
    judge, gold = load_scorer(run, "judge", device), load_gold(run, reward, device)
    return RewardModels(student, judge, gold, lambda: build_perceptual(perceptual).to(device))


def make_gold_scorer(gold: Gold, corpus: Corpus) -> GoldScorer:
    """The gold scores and outcomes of clips of the corpus's episodes."""
    numbers = {info.id: number for number, info in enumerate(corpus.infos)}

    def score(clips: Sequence[Clip]) -> GoldScores:
        infos = [corpus.infos[numbers[clip.episode]] for clip in clips]
        tasks = [(info.source, info.task) for info in infos]
        shown = [clip.frames for clip in clips]
        truths = [corpus.frames(numbers[clip.episode], 0, len(clip.frames)) for clip in clips]
        scores, outcomes = gold.measure(tasks, shown, truths)
        similarity = psnr(frames_to_video(np.stack(shown))[:, 1:], frames_to_video(np.stack(truths))[:, 1:]).mean(1)
        return GoldScores(scores, np.concatenate([outcomes, similarity.double().numpy()[:, None]], 1))

    return score


def score_rollouts(scorers: Mapping[str, Scorer], gold: Gold, rollouts: Rollouts) -> dict[str, Tensor]:
    """Totals (B,) of stored rollouts by each scorer and by gold, absolute (`student`) and faithful
    (`student_faithful`), and what gold's probe perceives: shown_success, true_success, position_error_cm."""
    videos = quantise(rollouts.videos)
    result: dict[str, Tensor] = {}

    def add(name: str, scores: Tensor) -> None:
        for variant, index in VARIANTS.items():
            result[name if variant == "absolute" else f"{name}_{variant}"] = scores[:, index].sum(-1).cpu()

    for name, scorer in scorers.items():
        add(name, mean_scores(scorer, videos, rollouts.instructions, rollouts.actions))
    given = rollouts.tasks, list(video_to_frames(videos)), list(video_to_frames(rollouts.targets))
    scores, outcomes = gold.measure(*given)
    add("gold", torch.from_numpy(scores))
    shown, true, apart = torch.from_numpy(outcomes).unbind(1)
    return result | {"shown_success": shown, "true_success": true, "position_error_cm": apart}


def make_score_fn(scorers: Mapping[str, Scorer], gold: Gold) -> Callable[[Rollouts], dict[str, Tensor]]:
    """`score_rollouts` by these scorers."""
    return partial(score_rollouts, scorers, gold)
