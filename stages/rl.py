"""Align the world model by GRPO, the student distilled online: `python -m stages.rl`."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from roboalign.bench.pairs import Bench
from roboalign.evaluation.perceptual_spec import PerceptualSpec
from roboalign.evaluation.video import build_perceptual
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import read_json, write_json
from roboalign.judge.model import load_judge
from roboalign.probe.gold import Gold
from roboalign.probe.model import load_probe
from roboalign.reward.dimensions import normalise, weighted
from roboalign.reward.rewards import build_reward, distilled
from roboalign.reward.rubric import limits_from_json
from roboalign.reward.spec import DistilledSignal, RewardSpec
from roboalign.rl.distillation import BenchClips, Ring, Scored, StudentLoss, spread
from roboalign.rl.interfaces import Draw, PromptReward, Reward, Score
from roboalign.rl.lit import GRPOModule, Surroundings
from roboalign.rl.measure import compared, rolled_out
from roboalign.rl.prompts import Prompts
from roboalign.rl.spec import RLSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.student.distill import distillation_loss
from roboalign.student.model import Student, load_student, save_student
from roboalign.tokenizer.model import load_tokenizer
from roboalign.training import fit
from roboalign.types import UInt8
from roboalign.world_model.model import WorldModel, load_world_model, save_world_model
from roboalign.world_model.sampler import Sampler


def main(run: Run) -> None:
    """Run the stage."""
    spec: RLSpec = run.section("rl", RLSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    where = torch.device(device.accelerator)
    corpus = Corpus.open(run.input("artifacts/sources/index.json"))
    train, test = corpus.where(split="train"), corpus.where(split="test")
    prompts = Prompts(train, spec.horizon, spec.stride, spec.policies)
    tokenizer = load_tokenizer(run.input("artifacts/tokenizer/model.safetensors")).to(where)
    world = run.input("artifacts/world_model/model.safetensors")
    policy, reference = (load_world_model(world, str(where)) for _ in range(2))
    student, untouched = (load_student(run.input("artifacts/student/model.safetensors")).to(where) for _ in range(2))
    teacher = load_judge(run.input("artifacts/judge/model.safetensors")).to(where)
    perceptual: PerceptualSpec = run.section("evaluation.perceptual", PerceptualSpec)
    signal = build_reward(spec.reward, reward, scorer=student, distance=lambda: build_perceptual(perceptual).to(where))
    ring = bench = None
    if spec.distillation is not None:
        clip = (spec.horizon + 1, 3, tokenizer.spec.height, tokenizer.spec.width)
        ring = Ring(spec.distillation.capacity, clip, len(reward.dimensions))
        bench = bench_clips(
            Bench.open(run.input("artifacts/bench"), corpus, reward.names), spec.distillation.bench_clips, teacher
        )
    around = Surroundings(
        tokenizer=tokenizer,
        reference=reference.requires_grad_(False),
        draw=drawing(policy, spec.temperature),
        reward=signal,
        instruction=prompts.instruction,
        teacher=teacher,
        student_loss=student_loss(student, reward),
        bench=bench,
    )
    run.say(f"{len(prompts)} prompts, {spec.training.batch} a step in groups of {spec.group}")
    began = time.monotonic()
    fit(
        GRPOModule(spec, policy, student, ring, around), prompts, spec.training, device,
        label=run.label, scratch=run.scratch, curves=run.output("plots/rl.tsv"),
    )  # fmt: skip
    seconds = time.monotonic() - began
    policy, student = policy.to(where).eval(), student.to(where).eval()
    save_world_model(run.output("artifacts/rl/model.safetensors"), policy, run.provenance)
    save_student(run.output("artifacts/rl/student.safetensors"), student, run.provenance)

    held = Prompts(test, spec.horizon, spec.stride)
    numbers = held.evenly(spec.measure.prompts)
    rewards: dict[str, Reward] = {"student": distilled(untouched, reward), "teacher": distilled(teacher, reward)}
    if spec.distillation is not None:
        rewards["student_online"] = distilled(student, reward)
    if not isinstance(spec.reward, DistilledSignal):
        rewards[spec.reward.kind] = signal
    gold = by_gold(run, held, reward, where)
    before, after = (
        rolled_out(
            model, drawing(model, spec.temperature), reference, tokenizer, held, numbers, rewards,
            temperature=spec.temperature, seed=spec.measure.seed, batch=spec.measure.batch, device=where,
            gold=gold,
        )
        for model in (reference, policy)
    )  # fmt: skip
    episodes = [held.corpus.infos[held.places[number][0]].id for number in numbers]
    metrics = compared(before, after, (*rewards, "gold"), episodes) | {"steps": spec.training.steps}
    write_json(run.output("metrics/rl.json"), metrics)
    write_json(run.root / "timings/rl.json", {"seconds": seconds, "steps": spec.training.steps})
    gain = metrics["reward"]["student"]
    run.say(f"held-out reward by the student {gain['before']:.3f} → {gain['after']:.3f} "
            f"({gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}])")  # fmt: skip


def by_gold(run: Run, prompts: Prompts, reward: RewardSpec, device: torch.device) -> PromptReward:
    """The reward of the gold scores: what the probe sees of a rollout, against what it sees of the true future."""
    probe = load_probe(run.input("artifacts/probe/model.safetensors")).to(device)
    gold = Gold(probe, reward, limits_from_json(read_json(run.input("artifacts/bench/probed_limits.json"))))

    def frames(videos: Tensor) -> list[UInt8]:
        return list((videos.clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy())

    def score(numbers: Sequence[int], videos: Tensor, futures: Tensor) -> Tensor:
        infos = [prompts.corpus.infos[prompts.places[number][0]] for number in numbers]
        scores = gold([(info.source, info.task) for info in infos], frames(videos), frames(futures))
        return torch.from_numpy(weighted(scores, reward))

    return score


def drawing(model: WorldModel, temperature: float) -> Draw:
    """Draws rollouts from `model` as it is at the time."""
    sampler = Sampler(model, temperature=temperature)

    def draw(context: Tensor, actions: Tensor, mask: Tensor, seeds: Tensor, groups: int) -> Tensor:
        state = sampler.start(context, mask, seeds, actions.shape[1], groups=groups)
        return torch.stack([sampler.step(state, a) for a in actions.repeat_interleave(groups, 0).unbind(1)], 1)

    return draw


def student_loss(student: Student, reward: RewardSpec) -> StudentLoss:
    """The student's loss on clips that the teacher scored."""
    weights = torch.tensor(reward.weights)

    def loss(clips: Scored) -> Tensor:
        where = student.head.bias.device
        targets = normalise(clips.scores, reward).to(where)
        return distillation_loss(
            student,
            clips.videos.to(where),
            clips.instructions,
            targets,
            weights.to(where),
            lengths=clips.lengths.to(where),
        )

    return loss


def bench_clips(bench: Bench, count: int, teacher: Score) -> BenchClips:
    """At most `count` clips of the bench's train split, spread evenly, scored by the teacher."""
    train = bench.where(split="train")
    rows = [train[index] for index in spread(min(count, len(train)), len(train)).tolist()]
    videos = [torch.from_numpy(bench.frames(row).transpose(0, 3, 1, 2).copy()) for row in rows]
    return BenchClips(videos, [bench.pairs[row].instruction for row in rows], teacher)


if __name__ == "__main__":
    execute("rl", main)
