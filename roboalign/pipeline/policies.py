"""The trained parts of policies, and the judges of their success in a world model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor

from roboalign.errors import StageError
from roboalign.hardware.spec import DeviceSpec, SamplerSpec
from roboalign.io import read_tsv
from roboalign.pipeline.scorers import load_scorer
from roboalign.pipeline.video_models import VideoModels
from roboalign.policies.behavior_cloning import BehaviorCloningNetwork, CloningNetwork, load_network, save_network
from roboalign.policies.build import PolicyParts
from roboalign.policies.demonstrations import Demonstrations, select_demonstrations
from roboalign.policies.lit import BehaviorCloningModule, PerceivedCloningModule
from roboalign.policies.perceived_cloning import PerceivedCloningNetwork, PerceivedDemonstrations
from roboalign.policies.policy import Robot
from roboalign.policies.spec import (
    CloningModelSpec,
    ConvolutionalCloningModelSpec,
    PerceivedCloningModelSpec,
    PlannerSpec,
    PoliciesSpec,
    VisualServoingSpec,
)
from roboalign.policies.visual_servoing import ServoingCalibration, ServoingParts, calibrate
from roboalign.probe.model import Probe, load_probe
from roboalign.reward.dimensions import ABSOLUTE, Scorer, mean_scores, normalise, weighted_total
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.rollout.clip_generator import make_rollout_fn
from roboalign.rollout.spec import PolicyDecodingSpec
from roboalign.run import Run
from roboalign.sources.builder import load_controller
from roboalign.sources.simulators.spec import DisplacementRobotSpec, SimulatedRobotSpec, SimulatedSpec
from roboalign.sources.spec import SourceSpec
from roboalign.store import Corpus
from roboalign.trained_module import TrainedModule
from roboalign.training import fit, fold_in
from roboalign.types import Float32, UInt8
from roboalign.video import frames_to_video
from roboalign.world_model.sampler import Sampler

CHUNK = 16
"""Clips that scorers get at once."""
CALIBRATION_EPISODES = 512
"""Maximum number of train episodes of a source that visual servoing is calibrated by."""


def simulated_robots(run: Run) -> dict[str, SimulatedRobotSpec]:
    """The simulated sources of the experiment, by name."""
    sources: dict[str, SourceSpec] = run.section("sources", dict[str, SourceSpec])
    return {name: source for name, source in sources.items() if isinstance(source, SimulatedSpec)}


def train_networks(
    run: Run, spec: PoliciesSpec, corpus: Corpus, device_spec: DeviceSpec
) -> tuple[dict[str, CloningNetwork], list[dict[str, Any]]]:
    """Train the networks of behaviour cloning and write them; each resumes by itself. Also returns their curves."""
    train, networks, curves = corpus.filter(split="train"), dict[str, CloningNetwork](), list[dict[str, Any]]()
    for name, model in spec.cloning_models.items():
        numbers = select_demonstrations(train.infos, model.demonstrations, successful=model.successful)
        vocabulary = Vocabulary.of([train.infos[number].instruction for number in numbers], model.words)
        torch.manual_seed(fold_in(model.training.seed, 0))
        network, module, data = make_training(run, model, vocabulary, train, numbers)
        scratch = run.scratch / name
        scratch.mkdir(exist_ok=True)
        run.log(f"{name}: {len(numbers)} demonstrations, {len(data)} frames")
        fit(
            module, data, model.training, device_spec, label=f"{run.label} {name}", scratch=scratch,
            curves=scratch / "curve.tsv", micro_batches=run.micro_batches.policies,
        )  # fmt: skip
        save_network(run.output(f"artifacts/policies/{name}.safetensors"), network, run.provenance)
        networks[name] = load_network(run.output(f"artifacts/policies/{name}.safetensors"))
        curves += [{"network": name, **row} for row in read_tsv(scratch / "curve.tsv")]
    return networks, curves


def make_training(
    run: Run, model: CloningModelSpec, vocabulary: Vocabulary, train: Corpus, numbers: Sequence[int]
) -> tuple[CloningNetwork, TrainedModule, Demonstrations | PerceivedDemonstrations]:
    """An untrained network, its Lightning module and its training frames: the demonstrations `numbers` of `train`."""
    match model:
        case ConvolutionalCloningModelSpec():
            network = BehaviorCloningNetwork(model, vocabulary, train.action_width)
            return network, BehaviorCloningModule(network), Demonstrations(train, numbers, vocabulary)
        case PerceivedCloningModelSpec():
            probe = load_probe(run.input(f"artifacts/probe/{model.probe}/model.safetensors"))
            perceived = PerceivedCloningNetwork(model, vocabulary, train.action_width, probe)
            return perceived, PerceivedCloningModule(perceived), PerceivedDemonstrations(train, numbers, perceived)
        case _:
            assert_never(model)


@dataclass(frozen=True)
class SuccessScorers:
    """Learned scorers as judges of success: by their dimension of manipulation, or by the mean of all if the reward has
    none."""

    scorers: Mapping[str, Scorer]
    reward: RewardSpec
    device: torch.device

    def __call__(self, instructions: Sequence[str], frames: UInt8, actions: Float32) -> dict[str, Float32]:
        """The normalised absolute scores (E,) by each scorer.

        Args:
            instructions: (E,).
            frames: (E, T + 1, H, W, 3).
            actions: Normalised (E, T, A), padded to the widest source.
        """
        kinds = [dimension.labeller.kind for dimension in self.reward.dimensions.values()]
        columns = [kinds.index("manipulation")] if "manipulation" in kinds else list(range(len(kinds)))
        scores: dict[str, list[Float32]] = {name: [] for name in self.scorers}
        for start in range(0, len(frames), CHUNK):
            rows = slice(start, start + CHUNK)
            videos, given = frames_to_video(frames[rows], self.device), torch.from_numpy(actions[rows]).to(self.device)
            for name, scorer in self.scorers.items():
                raw = mean_scores(scorer, videos, instructions[rows], given)[:, ABSOLUTE]
                scores[name].append(normalise(raw, self.reward)[:, columns].mean(1).cpu().numpy())
        return {name: np.concatenate(parts) for name, parts in scores.items()}


def load_success_scorers(run: Run, reward: RewardSpec, device: torch.device) -> SuccessScorers:
    """The student and the judge of the experiment."""
    scorers = {"student": load_scorer(run, "student", device), "judge": load_scorer(run, "judge", device)}
    return SuccessScorers(scorers, reward, device)


class StudentCost:
    """The cost of action sequences: minus the student's alignment reward of their rollouts in a world model."""

    def __init__(
        self, parts: VideoModels, spec: PlannerSpec, decoding: PolicyDecodingSpec, student: Scorer, corpus: Corpus,
        source: str, sampler_spec: SamplerSpec,
    ) -> None:  # fmt: skip
        sampler = Sampler(parts.world_model(spec.world_model), temperature=0.0, spec=sampler_spec)
        self._roll_out = make_rollout_fn(parts.tokenizer(), sampler, decoding)
        self._student, self._device = student, parts.device
        self._width = corpus.action_width
        self._mask = torch.arange(self._width, device=parts.device) < len(corpus.ranges[source].low)

    @torch.no_grad()
    def get_cost(self, info: Mapping[str, Any], action_candidates: Tensor) -> Tensor:
        """The costs (N, S) of action sequences (N, S, F, A); see `CostModel`."""
        count, samples, frames, width = action_candidates.shape
        actions = action_candidates.new_zeros(count, samples, frames, self._width)
        actions[..., :width] = action_candidates
        first = frames_to_video(info["pixels"], self._device)
        costs = []
        for row in range(count):
            starts = first[row].expand(samples, -1, -1, -1)
            seeds = torch.full((samples,), int(info["seed"][row]), device=self._device)
            given = actions[row].to(self._device)
            video, _ = self._roll_out(starts, given, self._mask.expand(samples, -1), seeds)
            clips = torch.cat([starts.unsqueeze(1), video], 1)
            raw = mean_scores(self._student, clips, [info["instruction"][row]] * samples, given)[:, ABSOLUTE]
            costs.append(-weighted_total(raw, self._student.reward))
        return torch.stack(costs)


def make_policy_parts(
    run: Run,
    spec: PoliciesSpec,
    networks: Mapping[str, CloningNetwork],
    corpus: Corpus,
    robots: Mapping[str, SimulatedRobotSpec],
    device: torch.device,
) -> PolicyParts:
    """Load the collaborators of the experiment's policies; `robots` are the simulated sources."""

    def network(model: CloningModelSpec) -> CloningNetwork:
        return networks[spec.network_of(model)]

    def cost_model(planner: PlannerSpec, source: str) -> StudentCost:
        parts, student = VideoModels.of(run, str(device)), load_scorer(run, "student", device)
        device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
        return StudentCost(parts, planner, spec.decoding, student, corpus, source, device_spec.sampler)

    @cache
    def probe(name: str) -> Probe:
        return load_probe(run.input(f"artifacts/probe/{name}/model.safetensors")).to(device)

    @cache
    def calibration(source: str) -> ServoingCalibration:
        return calibrate_servoing(corpus, source)

    def servoing(policy: VisualServoingSpec, source: str) -> ServoingParts:
        robot = robots[source]
        if not isinstance(robot, DisplacementRobotSpec):
            raise StageError(
                f"{source} ({robot.kind}) has no scripted controller of gripper displacements, which a policy of the "
                "kind visual_servoing needs; those of fetch and panda have one"
            )
        return ServoingParts(probe(policy.probe), load_controller(robot), calibration(source))

    return PolicyParts(network, cost_model, servoing, spec.time_limit, other_instructions(corpus))


def calibrate_servoing(corpus: Corpus, source: str) -> ServoingCalibration:
    """Calibrate visual servoing by train episodes with states, evenly spaced over the split. Raises StageError if the
    source has none."""
    train, robot = corpus.filter(split="train", source=source), Robot(source, corpus.ranges[source])
    count, episodes = min(len(train), CALIBRATION_EPISODES), list[tuple[str, Float32, Float32]]()
    for number in (index * len(train) // count for index in range(count)):
        states, actions = train.state(number), train.actions(number)[:, : robot.action_width]
        if states is not None:
            episodes.append((train.infos[number].task, states, robot.denormalise(actions)))
    if not episodes:
        raise StageError(
            f"{source} has no train episode with states, by which a policy of the kind visual_servoing is calibrated; "
            "record some, or remove the policy"
        )
    return calibrate(episodes)


def other_instructions(corpus: Corpus) -> dict[str, dict[str, str]]:
    """For each source, the first instruction of its next task for each of its instructions; absent for one task."""
    tasks: dict[str, dict[str, set[str]]] = {}
    for info in corpus.infos:
        tasks.setdefault(info.source, {}).setdefault(info.task, set()).add(info.instruction)
    result: dict[str, dict[str, str]] = {}
    for source, texts in tasks.items():
        names = sorted(texts)
        for task, following in zip(names, names[1:] + names[:1], strict=True):
            if following != task:
                result.setdefault(source, {}).update(dict.fromkeys(texts[task], min(texts[following])))
    return result
