"""A judge of any kind: trained on the bench, written and read, with its scores of the bench's pairs."""

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, assert_never, overload

import torch
from pydantic import TypeAdapter

from roboalign import checkpoint
from roboalign.bench.dataset import ObservedSets, Scores, SetPlan, observe_pairs, read_video
from roboalign.bench.pairs import Bench
from roboalign.errors import require_extra
from roboalign.hardware.spec import DeviceSpec
from roboalign.judge.model import RegressionJudge, load_regression_judge
from roboalign.judge.openai_api import OpenAIJudge
from roboalign.judge.spec import JudgeSpec, OpenAIJudgeSpec, Qwen3VLJudgeSpec, RegressionJudgeSpec
from roboalign.probe.model import Probe, load_probe
from roboalign.probe.outcome import OutcomeModel, load_outcome_model
from roboalign.reward.dimensions import Judge, Scorer, normalise
from roboalign.reward.init import initial_vocabulary, initialize_reward_model
from roboalign.reward.lit import RewardModule
from roboalign.reward.model import RewardModel
from roboalign.reward.spec import RewardModelSpec, RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.run import Run
from roboalign.training import fit, fold_in
from roboalign.types import Json


class BenchClips(Sequence[Any]):
    """Labelled clips of a bench for the vision-language judge, made when they are read."""

    def __init__(self, bench: Bench, rows: Sequence[int]) -> None:
        self.bench, self.rows = bench, list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "BenchClips": ...
    def __getitem__(self, index: int | slice) -> Any:
        """A LabelledClip, or some of the clips."""
        from roboalign.judge.qwen3_vl_lit import LabelledClip

        if isinstance(index, slice):
            return BenchClips(self.bench, self.rows[index])
        frames, actions = self.bench.clip(self.rows[index])
        pair = self.bench.pairs[self.rows[index]]
        video = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())
        return LabelledClip(
            video, pair.instruction, torch.from_numpy(actions), torch.tensor([pair.scores, pair.faithful])
        )


def fit_reward_model(
    run: Run,
    model: RewardModel,
    spec: RewardModelSpec,
    bench: Bench,
    rows: Sequence[int],
    targets: Scores,
    device: DeviceSpec,
    curves: Path,
) -> float:
    """Train a reward model on the pairs `rows` of a bench, towards raw scores `targets` (N, 2, D).

    Returns the share of the pairs whose scene its eyes know.
    """
    started = time.monotonic()
    if spec.init is not None:
        run.log(initialize_reward_model(model, spec.init, run.scratch))
    model.to(device.accelerator).train()
    words = model.vocabulary.encode([bench.pairs[row].instruction for row in rows])
    plan = SetPlan.of(bench, rows, spec.set_size, spec.group_share)
    clips = ObservedSets(
        observe_pairs(model, bench, rows), words, normalise(targets, model.reward), plan, spec.training.seed,
        partial(read_video, bench, rows),
    )  # fmt: skip
    known = float(clips.rest[:, 0, -1].mean())
    run.log(f"{len(rows)} clips, {len(plan.groups)} groups among them, {known:.0%} of known scenes, read in "
            f"{time.monotonic() - started:.0f} s")  # fmt: skip
    module = RewardModule(model, spec.loss, spec.training)
    micro_batches = run.micro_batches.student if run.name == "student" else run.micro_batches.judge
    fit(
        module, clips, spec.training, device, label=run.label, scratch=run.scratch, curves=curves,
        micro_batches=micro_batches,
    )  # fmt: skip
    model.to(device.accelerator).eval()
    return known


def load_perception(run: Run, name: str) -> tuple[Probe, OutcomeModel]:
    """The state probe through which the scorers of `name` perceive, and the outcome model beside it."""
    folder = run.input(f"artifacts/probe/{name}/model.safetensors").parent
    return load_probe(folder / "model.safetensors"), load_outcome_model(folder / "outcome.safetensors")


def train_judge(
    run: Run,
    name: str,
    spec: JudgeSpec,
    reward: RewardSpec,
    bench: Bench,
    eyes: Probe,
    outcome: OutcomeModel,
    width: int,
    device: DeviceSpec,
) -> Judge:
    """The judge `name` of a spec, trained on the bench's train split; `width` is that of the actions."""
    train = bench.filter(split="train")
    curves = run.output(f"plots/{name}.tsv")
    match spec:
        case RegressionJudgeSpec():
            torch.manual_seed(fold_in(spec.training.seed, 0))
            texts = [bench.pairs[row].instruction for row in train]
            words = initial_vocabulary(spec, run.scratch) or Vocabulary.of(texts, spec.encoder.text.words)
            judge = RegressionJudge(spec, reward, words, width, eyes, outcome)
            fit_reward_model(run, judge, spec, bench, train, bench.labels[train], device, curves)
            return judge
        case Qwen3VLJudgeSpec():
            with require_extra("vlm", "judge.kind qwen3_vl"):
                from roboalign.judge.qwen3_vl import build_qwen3_vl_judge
                from roboalign.judge.qwen3_vl_init import initialize_qwen3_vl_judge
                from roboalign.judge.qwen3_vl_lit import LabelledClipDataset, Qwen3VLJudgeModule

            model = build_qwen3_vl_judge(spec, reward)
            if spec.init is not None:
                run.log(initialize_qwen3_vl_judge(model, spec.init, run.scratch))
            dataset = LabelledClipDataset(spec, reward, BenchClips(bench, train))
            fit(
                Qwen3VLJudgeModule(model), dataset, spec.training, device, label=run.label, scratch=run.scratch,
                curves=curves, micro_batches=run.micro_batches.judge,
            )  # fmt: skip
            return model.to(device.accelerator).eval()
        case OpenAIJudgeSpec():
            run.log(f"{spec.model} behind {spec.base_url} is used as it is; nothing is trained")
            curves.write_text("step\n", encoding="utf-8")
            return OpenAIJudge(spec, reward, root=run.root)
        case _:
            assert_never(spec)


def save_scores(path: Path, scores: Scores, provenance: str) -> None:
    """Write a judge's mean raw scores (P, 2, D) of all pairs of the bench, in their order.

    A judge may be slow or cost money: what learns from its scores reads this file instead of asking the judge again.
    """
    checkpoint.save(path, {"scores": torch.from_numpy(scores)}, spec={}, provenance=provenance)


def load_scores(path: Path, bench: Bench) -> Scores:
    """The scores (P, 2, D) in a file. Raises CheckpointError if they are not those of the bench's pairs."""
    tensors, _ = checkpoint.load(path)
    scores = tensors.get("scores", torch.empty(0))
    if scores.ndim != 3 or len(scores) != len(bench.pairs):
        raise checkpoint.CheckpointError(
            f"{path}: holds scores of {len(scores)} pairs, the bench has {len(bench.pairs)}; run `dvc repro judge`"
        )
    found: Scores = scores.double().numpy()
    return found


def has_request_limits(path: Path) -> bool:
    """Whether the scorer in a file asks a server, whose limits on requests count those of one process only.

    Raises CheckpointError on a damaged file.
    """
    spec: Json = checkpoint.load_metadata(path).get("spec")
    return isinstance(spec, dict) and spec.get("kind") == "openai_api"


def load_judge(path: Path, device: torch.device | str = "cpu", root: Path = Path()) -> Scorer:
    """The judge in a file, of any kind, ready to score. Raises CheckpointError on a damaged or foreign file."""
    metadata = checkpoint.load_metadata(path)
    try:
        spec: JudgeSpec = TypeAdapter(JudgeSpec).validate_json(json.dumps(metadata["spec"]))
        reward = RewardSpec.model_validate_json(json.dumps(metadata["reward"]))
    except (KeyError, ValueError, RecursionError) as error:
        raise checkpoint.CheckpointError(f"{path}: does not hold a judge ({error}); run `dvc repro judge`") from error
    match spec:
        case RegressionJudgeSpec():
            return load_regression_judge(path).to(device)
        case Qwen3VLJudgeSpec():
            with require_extra("vlm", "a judge of the kind qwen3_vl"):
                from roboalign.judge.qwen3_vl import load_qwen3_vl_judge

            return load_qwen3_vl_judge(path).to(device)
        case OpenAIJudgeSpec():
            return OpenAIJudge(spec, reward, root=root)
        case _:
            assert_never(spec)
