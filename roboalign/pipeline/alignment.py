"""Alignment put together: the module with its collaborators, the guard's check, the measures before and after."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import cast, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from roboalign.bench.dataset import Scores, read_video
from roboalign.bench.pairs import Bench
from roboalign.distributed import is_rank
from roboalign.hardware.spec import DeviceSpec, SamplerSpec
from roboalign.metrics.statistics import bootstrap
from roboalign.pipeline.judges import load_scores
from roboalign.pipeline.scorers import MODEL, load_reward_models, load_scorer, make_score_fn
from roboalign.pipeline.video_models import VideoModels
from roboalign.reward.build import RewardModels, build_reward
from roboalign.reward.dimensions import Scorer, mean_scores, normalise
from roboalign.reward.model import RewardModel
from roboalign.reward.observation import SetBatch, make_set
from roboalign.reward.rewards import Reward, Rollouts, l1_by_frame, mse_by_frame
from roboalign.reward.spec import RewardSpec
from roboalign.rl.advantage import signal_to_noise
from roboalign.rl.guard import Check
from roboalign.rl.interfaces import RolloutFn
from roboalign.rl.lit import AlignmentComponents, AlignmentModule, ObserveFn
from roboalign.rl.measure import Values, compare_policies, roll_out
from roboalign.rl.prompts import Item, Prompts
from roboalign.rl.replay_buffer import ReplayBuffer
from roboalign.rl.spec import GuardSpec, RLSpec
from roboalign.rollout.clip_generator import make_rollout_fn
from roboalign.run import Run
from roboalign.store import Corpus
from roboalign.student.model import Student, load_student
from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
from roboalign.training import fold_in
from roboalign.types import Json
from roboalign.video import frames_to_video, quantise
from roboalign.world_model.model import WorldModel
from roboalign.world_model.sampler import Sampler


@dataclass(frozen=True)
class PolicyMeasure:
    """Measures a policy on some prompts: the same seeds, decoding and scorers for every policy."""

    spec: RLSpec
    prompts: Prompts
    numbers: Sequence[int]
    reference: WorldModel
    tokenizer: BatchInvariantTokenizer
    scorers: dict[str, Scorer]
    models: RewardModels
    device: torch.device
    seed: int
    reward: Reward
    """The reward that is maximised, measured as `proxy`."""
    sampler: SamplerSpec

    def __call__(self, policy: WorldModel) -> Values:
        """The measures of `roll_out`, one a prompt."""
        spec, scores = self.spec, make_score_fn(self.scorers, self.models.gold)

        def score(rollouts: Rollouts) -> dict[str, Tensor]:
            stored = rollouts.with_videos(quantise(rollouts.videos))
            return scores(rollouts) | {"proxy": self.reward(stored)}

        sampler = Sampler(policy, temperature=spec.temperature, spec=self.sampler)
        return roll_out(
            policy, self.reference, make_rollout_fn(self.tokenizer, sampler, spec.decoding),
            self.tokenizer.tokenizer, self.prompts, self.numbers, score,
            temperature=spec.temperature, segments=spec.decoding.segments(spec.horizon),
            seed=self.seed, batch_size=spec.measure.batch_size, device=self.device,
        )  # fmt: skip

    def episodes(self) -> list[str]:
        """The episode of each prompt."""
        return [self.prompts.corpus.infos[self.prompts.places[number][0]].id for number in self.numbers]


@dataclass(frozen=True)
class Alignment:
    """An alignment ready to train: the module with the policy and the student in it, and what it is compared with."""

    module: AlignmentModule
    policy: WorldModel
    student: Student
    reference: WorldModel
    """The supervised model that the policy starts from."""
    prompts: Prompts
    test: PolicyMeasure
    """Measures a policy on test prompts."""

    def compare(self) -> dict[str, Json]:
        """The figures of metrics/rl.json that compare the trained policy with the supervised model."""
        scorers = dict(self.test.scorers)
        if self.module.buffer is not None:
            scorers["student_online"] = self.student.eval()
        measure = replace(self.test, scorers=scorers)
        before, after = measure(self.reference), measure(self.policy.eval())
        names = [f"{name}{suffix}" for name in (*scorers, "gold") for suffix in ("", "_faithful")]
        return compare_policies(before, after, ("proxy", *names), measure.episodes())


def load_alignment(run: Run, spec: RLSpec, reward_spec: RewardSpec, device: torch.device) -> Alignment:
    """The alignment of an experiment, its models loaded and put together."""
    parts = VideoModels.of(run, str(device))
    corpus, tokenizer = parts.corpus(), parts.tokenizer()
    train, validation, test = (corpus.filter(split=split) for split in ("train", "validation", "test"))
    policy, reference = (parts.world_model() for _ in range(2))
    if sharded := is_rank() and _device_spec(run).weight_shards > 1:
        policy, reference = policy.cpu(), reference.cpu()  # until each device has its part of them
    student, distilled = (load_student(run.input(f"artifacts/student/{MODEL}")).to(device) for _ in range(2))
    models = load_reward_models(run, reward_spec, student, device)
    reward, scorers = build_reward(spec.reward, reward_spec, models), load_held_out(run, distilled, device)
    reference.requires_grad_(False)

    def measure(episodes: Corpus, count: int, seed: int) -> PolicyMeasure:
        held = Prompts(episodes, spec.horizon, spec.horizon)
        return PolicyMeasure(
            spec,
            held,
            held.evenly(count),
            reference,
            tokenizer,
            scorers,
            models,
            device,
            seed,
            reward,
            _device_spec(run).sampler,
        )

    prompts = Prompts(train, spec.horizon, spec.stride, spec.policies)
    guard = None if spec.guard is None else measure(validation, spec.guard.prompts, spec.measure.seed + 1)
    bench = Bench.open(run.input("artifacts/bench"), corpus, reward_spec.names)
    sampled = deepcopy(policy).to(device).requires_grad_(False) if sharded else policy
    module = make_module(
        run, spec, policy, sampled, reference, student, models, prompts, tokenizer, reward, bench, guard
    )  # fmt: skip
    tested = measure(test, spec.measure.prompts, spec.measure.seed)
    return Alignment(module, policy, student, reference, prompts, tested)


def _device_spec(run: Run) -> DeviceSpec:
    spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    return spec


def make_observe_fn(student: Student, judge: Scorer) -> ObserveFn:
    """Rollouts as the student reads them, scored by the judge, for online distillation."""

    def observe(rollouts: Rollouts) -> SetBatch:
        videos = quantise(rollouts.videos)
        scores = normalise(mean_scores(judge, videos, rollouts.instructions, rollouts.actions), judge.reward)
        words = student.vocabulary.encode(rollouts.instructions)
        return make_set(student.observe(videos, rollouts.actions), words, torch.as_tensor(scores).float())

    return observe


class BenchSets(Sequence[SetBatch]):
    """Sets of a bench's clips, whose videos are read when a set is taken: they are many gigabytes."""

    def __init__(self, bench: Bench, groups: Sequence[Sequence[int]], sets: Sequence[SetBatch]) -> None:
        self.bench, self.groups, self.sets = bench, groups, sets

    def __len__(self) -> int:
        return len(self.sets)

    @overload
    def __getitem__(self, index: int) -> SetBatch: ...
    @overload
    def __getitem__(self, index: slice) -> "BenchSets": ...
    def __getitem__(self, index: int | slice) -> "SetBatch | BenchSets":
        """A set, or some of the sets."""
        if isinstance(index, slice):
            return BenchSets(self.bench, self.groups[index], self.sets[index])
        found = self.sets[index].copy()
        if "lengths" in found:
            group = self.groups[index]
            found["videos"] = torch.cat([read_video(self.bench, group, place) for place in range(len(group))])
        return found


def bench_sets(student: Student, scores: Scores, bench: Bench, clips: int) -> BenchSets:
    """Groups of the bench's train split, of about `clips` clips in all, with the judge's raw `scores` (P, 2, D) of the
    bench's pairs as targets."""
    size, sets = student.spec.set_size, list[SetBatch]()
    groups = [group[:size] for group in bench.groups(split="train") if len(group) >= size]
    count = min(len(groups), clips // size)
    chosen = [groups[n * len(groups) // count] for n in range(count)]
    for group in chosen:
        frames, actions = zip(*(bench.clip(row) for row in group), strict=True)
        videos = torch.stack([frames_to_video(each) for each in frames])
        observation = student.observe(videos, torch.from_numpy(np.stack(actions)))
        words = student.vocabulary.encode([bench.pairs[row].instruction for row in group])
        targets = torch.from_numpy(normalise(scores[group], student.reward)).float()
        found = make_set(observation, words, targets)
        found.pop("videos", None)
        sets.append(found)
    return BenchSets(bench, chosen, sets)


def make_module(
    run: Run,
    spec: RLSpec,
    policy: WorldModel,
    sampled: WorldModel,
    reference: WorldModel,
    student: Student,
    models: RewardModels,
    prompts: Prompts,
    tokenizer: BatchInvariantTokenizer,
    reward: Reward,
    bench: Bench,
    guard: PolicyMeasure | None,
) -> AlignmentModule:
    """The alignment module with its collaborators; `sampled` is the policy, or its copy if it will be sharded."""
    buffer, observe = None, None
    sets: Sequence[SetBatch] = ()
    if spec.distillation is not None:
        observe = make_observe_fn(student, models.judge)
        scores = load_scores(run.input("artifacts/judge/scores.safetensors"), bench)
        sets = bench_sets(student, scores, bench, spec.distillation.bench_clips)
        buffer = ReplayBuffer(spec.distillation.capacity, _one_clip(student, prompts, observe))

    def rollout_at(temperature: float) -> RolloutFn:
        sampler = Sampler(sampled, temperature=temperature, spec=_device_spec(run).sampler)
        return make_rollout_fn(tokenizer, sampler, spec.decoding)

    by_frame = {"mse": mse_by_frame, "l1": l1_by_frame}.get(spec.reward.kind)
    components = AlignmentComponents(
        tokenizer=tokenizer.tokenizer,
        reference=reference,
        rollout=rollout_at(spec.temperature),
        greedy_rollout=rollout_at(0.0),
        sampled_policy=None if sampled is policy else sampled,
        reward=reward,
        reward_by_frame=by_frame,
        observe=observe,
        bench=sets,
        check=None if guard is None or spec.guard is None else make_check(run, spec.guard, sampled, guard),
    )
    module = AlignmentModule(spec, policy, student, prompts, components, buffer)
    module.sampling_parts = run.micro_batches.rl_sampling
    module.micro_batches = run.micro_batches.rl
    policy.activation_checkpointing = run.activation_checkpointing
    return module


def _one_clip(student: Student, prompts: Prompts, observe: ObserveFn) -> dict[str, Tensor]:
    """The fields of one clip of a replay buffer, for their shapes and types."""
    item = prompts[0]
    videos = item["frames"].unsqueeze(0)
    clip = observe(
        Rollouts(videos, (prompts.instruction(0),), item["actions"].unsqueeze(0), videos, (prompts.task(0),))
    )
    return {name: value[0] for name, value in cast(dict[str, Tensor], clip).items()}


def make_check(run: Run, spec: GuardSpec, policy: WorldModel, measure: PolicyMeasure) -> Callable[[int], Check]:
    """The guard's check of the current policy; each check is logged in one line."""
    scorer = f"{spec.scorer}_faithful"

    def check(step: int) -> Check:
        values = measure(policy.eval())
        policy.train()
        gold = values["gold_faithful"]
        found = Check(
            step=step,
            proxy=float(values["proxy"].mean()),
            confirmed=float(values[scorer].mean()),
            psnr=float(values["psnr"].mean()),
            gold=float(np.nanmean(gold)) if np.isfinite(gold).any() else float("nan"),
            kl=float(values["kl"].mean()),
        )
        run.log(f"check after {step} updates: reward {found.proxy:.3f}, {spec.scorer} {found.confirmed:.3f}, gold "
                f"{found.gold:.3f}, PSNR {found.psnr:.2f} dB, KL {found.kl:.4f} a token")  # fmt: skip
        return found

    return check


def gradient_cosines(
    module: AlignmentModule, prompts: Prompts, batches: int, device_spec: DeviceSpec
) -> dict[str, Json]:
    """The signal-to-noise of one update: cosines between the policy gradients of different batches, before training.

    One device computes them, in as many parts as the devices of the training have together. Half precision is bfloat16,
    because float16 would need a scale of the loss.
    """
    device, devices = torch.device(device_spec.accelerator), device_spec.ranks
    spec, gradients = module.spec, []
    for number in range(batches):
        generator = torch.Generator().manual_seed(fold_in(spec.training.seed, number, 6))
        drawn = torch.randint(len(prompts), (spec.training.batch_size,), generator=generator).tolist()
        batch = {name: value.to(device) for name, value in default_collate([prompts[index] for index in drawn]).items()}
        module.step = 1_000_000 + number  # seeds that no training step has
        with torch.autocast(device.type, torch.bfloat16, enabled=device_spec.precision != "32-true"):
            rollouts = module.sample(cast(Item, batch), devices)
            gradients.append(module.gradient(rollouts, module.credit(rollouts, devices), devices))
    cosines = signal_to_noise(gradients)
    return {**bootstrap(cosines.double().cpu().numpy()).json(), "batches": batches}


def check_rows(module: AlignmentModule) -> list[dict[str, float]]:
    """The checks of the guard as rows of a table; what is not known is left out."""
    return [{k: v for k, v in asdict(check).items() if v == v} for check in module.check_history]


def load_held_out(run: Run, student: RewardModel, device: torch.device) -> dict[str, Scorer]:
    """The learned scorers of rollouts: the student as it was distilled, the judge and the held-out judge."""
    return {
        "student": student,
        "judge": load_scorer(run, "judge", device),
        "held_out": load_scorer(run, "held_out", device),
    }
