"""Every policy in every world, from the same first frames of held-out episodes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from roboalign.io import replacing
from roboalign.pipeline.policies import SuccessScorers
from roboalign.policies.baselines import ReplayPolicy
from roboalign.policies.build import PolicyParts, build_policy
from roboalign.policies.checked_policy import CheckedPolicy
from roboalign.policies.closed_loop import ClosedLoop, run_closed_loop
from roboalign.policies.demonstrations import select_demonstrations
from roboalign.policies.policy import Policy, Robot
from roboalign.policies.results import MODELS, OTHER_FRAMES, SIMULATOR, PolicyResults, WorldResult, replay_of
from roboalign.policies.spec import (
    BehaviorCloningSpec,
    ConstantPolicySpec,
    PoliciesSpec,
    PolicyServerSpec,
    RandomPolicySpec,
    ScriptedPolicySpec,
    VisualServoingSpec,
)
from roboalign.run import Run
from roboalign.sources.builder import build_simulator
from roboalign.sources.simulators.record import Assignment, record
from roboalign.sources.simulators.simulator import Simulator
from roboalign.sources.simulators.spec import DisplacementRobotSpec, SimulatedRobotSpec
from roboalign.store import Corpus, EpisodeInfo
from roboalign.training import fold_in
from roboalign.types import STATE_NAMES

MakeEnv = Callable[[str, str, int], "VectorEnv[Any, Any, Any]"]
"""A world (`simulator`, a model, or `supervised.<decoding>`), a source and a number of copies to the environment."""

MAX_SIMULATORS = 4
"""Simulators of one source at once; building one takes seconds."""

DEMONSTRATIONS_MEASURED = 16
"""Demonstrations of each source for the cloning error."""

_SUCCESS = STATE_NAMES.index("success")


@dataclass
class PolicyEvaluation:
    """Evaluates policies. Finished parts are kept in the stage's scratch folder, so that a killed evaluation goes on
    where it was."""

    run: Run
    spec: PoliciesSpec
    corpus: Corpus
    """All episodes."""
    robots: Mapping[str, SimulatedRobotSpec]
    """The simulated sources."""
    parts: PolicyParts
    make_env: MakeEnv
    score: SuccessScorers
    covers: Callable[[str, str], bool]
    """Whether the gold state probe covers a source's task; episodes of other tasks cannot be judged in a model."""
    _envs: dict[tuple[str, str], "VectorEnv[Any, Any, Any]"] = field(default_factory=dict)
    _simulators: dict[tuple[str, str], Simulator] = field(default_factory=dict)
    """The simulators of scripted policies, by source and task."""

    def __post_init__(self) -> None:
        self.held_out = self.corpus.filter(split=self.spec.split)
        chosen = {source: self._choose(source) for source in self.robots}
        self.episodes = {source: infos for source, infos in chosen.items() if len(infos) > 1}
        ids = {source: [info.id for info in infos] for source, infos in self.episodes.items()}
        self.results = PolicyResults(self.spec, ids)

    def _choose(self, source: str) -> list[EpisodeInfo]:
        """The source's episodes, spread evenly over the split; none if there are fewer than two."""
        own = [info for info in self.held_out.infos if info.source == source and self.covers(source, info.task)]
        if len(own) < 2:
            self.run.log(f"{source} is left out: {len(own)} {self.spec.split} episodes can be judged, two are needed")
            return []
        count = min(self.spec.episodes, len(own))
        return [own[index * len(own) // count] for index in range(count)]

    def evaluate(self) -> PolicyResults:
        """The results of all policies in all worlds."""
        for source in self.episodes:
            policies = [policy for policy in self.spec.policies if self._can_act(policy, source)]
            for policy in policies:
                self._measure_cloning(policy, source)
                self._add(SIMULATOR, policy, source, self._simulate)
            self._close_envs()
            for model in MODELS:
                for policy in policies:
                    self._add(model, policy, source, self._imagine)
                    if not self.results.acts_on_images(policy):
                        result = self.results.worlds[model][policy][source]
                        self.results.add(replay_of(model), policy, source, replace(result, clips=None))
                    elif self.spec.replays:
                        self._add(replay_of(model), policy, source, self._imagine)
            worlds = [f"supervised.{name}" for name in self.spec.compared_decodings]
            for world in (*([OTHER_FRAMES] if self.spec.other_frames else []), *worlds):
                for policy in policies:
                    self._add(world, policy, source, self._imagine)
            self._close_envs()
        return self.results

    def _can_act(self, policy: str, source: str) -> bool:
        """Whether a policy can act for a source: visual servoing needs a scripted controller."""
        servoing, robot = isinstance(self.spec.policies[policy], VisualServoingSpec), self.robots[source]
        if servoing and not isinstance(robot, DisplacementRobotSpec):
            self.run.log(f"{policy} is left out for {source}: {robot.kind} has no scripted controller of displacements")
            return False
        return True

    def _add(self, world: str, policy: str, source: str, compute: Callable[[str, str, str], WorldResult]) -> None:
        """Add a result, from the scratch folder if it is there."""
        file = self.run.scratch / "results" / f"{world}-{policy}-{source}.npz"
        if file.exists():
            result = load_result(file)
        else:
            result = compute(world, policy, source)
            save_result(file, result)
            rate = float((result.success[:, -1] >= self.spec.threshold).mean())
            self.run.log(f"{source}: {policy}, {world}: success {rate:.2f} of {len(result.success)} episodes")
        self.results.add(world, policy, source, result)

    def _robot(self, source: str) -> Robot:
        return Robot(source, self.corpus.ranges[source])

    def _policy(self, name: str, source: str) -> Policy:
        """A policy that acts on images."""
        spec = self.spec.policies[name]
        assert not isinstance(spec, ScriptedPolicySpec)
        return build_policy(spec, self._robot(source), self.parts)

    def _simulate(self, world: str, policy: str, source: str) -> WorldResult:
        """A policy in the simulator."""
        spec = self.spec.policies[policy]
        if isinstance(spec, ScriptedPolicySpec):
            return self._record(spec, source)
        loop = self._run(world, policy, source, lambda rows: self._policy(policy, source))
        return WorldResult(loop.success, None, {}, loop.actions, loop.frames[: self.spec.clips])

    def _record(self, spec: ScriptedPolicySpec, source: str) -> WorldResult:
        """A scripted policy in the simulator, at the simulator's own control rate, as episodes are recorded."""
        robot, horizon = self.robots[source], self.spec.horizon
        noise = robot.noise.model_copy(update={"low": spec.noise, "high": spec.noise})
        declared = robot.model_copy(update={"length": horizon + 1, "noise": noise})
        episodes = []
        for info in self.episodes[source]:
            if (source, info.task) not in self._simulators:
                self._simulators[source, info.task] = build_simulator(robot, info.task)
            actor = "noisy_expert" if spec.noise > 0 else spec.actor
            assignment = Assignment(int(info.id.split("/")[1]), info.task, info.instruction, actor, info.split)
            episodes.append(record(declared, source, assignment, self._simulators[source, info.task]))
        states = np.stack([episode.state for episode in episodes if episode.state is not None])
        actions = np.stack([episode.actions[:horizon] for episode in episodes])
        frames = np.stack([episode.frames for episode in episodes[: self.spec.clips]] or [episodes[0].frames])
        return WorldResult(states[:, 1:, _SUCCESS], None, {}, actions, frames[: self.spec.clips])

    def _imagine(self, world: str, policy: str, source: str) -> WorldResult:
        """A policy in a world model, or its actions in the simulator replayed there."""
        infos = self.episodes[source]
        shown = [self._other_task(info) for info in infos] if world == OTHER_FRAMES else infos
        actions = self.results.worlds[SIMULATOR][policy][source].actions
        assert actions is not None
        replays = world.endswith(".replay") or not self.results.acts_on_images(policy)

        def make(rows: list[int]) -> Policy:
            if replays:
                return ReplayPolicy(actions[rows], self._robot(source))
            return self._policy(policy, source)

        loop = self._run(world.removesuffix(".replay"), policy, source, make, [info.id for info in shown])
        if world not in MODELS:
            return WorldResult(loop.success, loop.distance)
        ranges, width = self.corpus.ranges[source], self.corpus.action_width
        normalised = np.stack([ranges.normalise(each) for each in loop.actions])
        padded = np.pad(normalised, ((0, 0), (0, 0), (0, width - normalised.shape[-1])))
        scores = self.score([info.instruction for info in infos], loop.frames, padded)
        return WorldResult(loop.success, loop.distance, scores, None, loop.frames[: self.spec.clips])

    def _other_task(self, info: EpisodeInfo) -> EpisodeInfo:
        """The next of the chosen episodes of another task of the same source, or the next one if it has one task."""
        infos = self.episodes[info.source]
        start = infos.index(info)
        turn = [*infos[start + 1 :], *infos[:start]]
        return next((other for other in turn if other.task != info.task), turn[0])

    def _run(
        self,
        world: str,
        policy: str,
        source: str,
        make: Callable[[list[int]], Policy],
        shown: Sequence[str] | None = None,
    ) -> ClosedLoop:
        """Close the loop of a policy and a world, batch by batch; the last batch is filled up with its last episode.

        `make` builds the policy for the rows of a batch; `shown` are the episodes whose first frames the world starts
        from, those of the policy's instructions by default.
        """
        infos = self.episodes[source]
        names, count = shown or [info.id for info in infos], len(infos)
        env, loops = self._env(world, source, count), []
        size = env.num_envs
        for start in range(0, count, size):
            rows = [min(row, count - 1) for row in range(start, start + size)]
            seeds = [fold_in(self.spec.seed, self._number(infos[row]), 1) % 2**31 for row in rows]
            spec, robot = self.spec.policies[policy], self._robot(source)
            limit, clip = None, False  # our own policies may plan for as long as they need
            if isinstance(spec, PolicyServerSpec):
                limit, clip = self.spec.time_limit, spec.clip
            checked = CheckedPolicy(policy, make(rows), robot, limit, clip=clip)
            texts = [infos[row].instruction for row in rows]
            loops.append(run_closed_loop(checked, env, [names[row] for row in rows], seeds, self.spec.horizon, texts))
        return ClosedLoop.join(loops, count)

    @staticmethod
    def _number(info: EpisodeInfo) -> int:
        return int(info.id.split("/")[1])

    def _env(self, world: str, source: str, count: int) -> "VectorEnv[Any, Any, Any]":
        """The environment of a world, which is kept until `_close_envs`."""
        model = "supervised" if world == OTHER_FRAMES else world
        if (model, source) not in self._envs:
            limit = MAX_SIMULATORS if model == SIMULATOR else self.spec.batch_size
            self._envs[model, source] = self.make_env(model, source, min(limit, count))
        return self._envs[model, source]

    def _close_envs(self) -> None:
        for env in self._envs.values():
            env.close()
        for simulator in self._simulators.values():
            simulator.close()
        self._envs.clear()
        self._simulators.clear()

    def _measure_cloning(self, policy: str, source: str) -> None:
        """The error of a policy's actions on demonstrations of the split, unless it needs a server or a world model."""
        if not isinstance(self.spec.policies[policy], BehaviorCloningSpec | ConstantPolicySpec | RandomPolicySpec):
            return
        corpus = self.held_out.filter(source=source)
        acting, errors = self._policy(policy, source), []
        for number in select_demonstrations(corpus.infos, DEMONSTRATIONS_MEASURED):
            frames, info = corpus.frames(number), corpus.infos[number]
            acting.reset([info.instruction] * len(frames), range(len(frames)))
            predicted = corpus.ranges[source].normalise(acting.act(frames))
            errors.append(np.abs(predicted - corpus.actions(number)[:, : predicted.shape[1]]).mean())
        if errors:
            self.results.cloning_error.setdefault(policy, {})[source] = float(np.mean(errors))


def save_result(file: Path, result: WorldResult) -> None:
    """Write a result to the scratch folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"success": result.success, **{f"score.{k}": v for k, v in result.scores.items()}}
    arrays |= {name: value for name in ("distance", "actions", "clips") if (value := getattr(result, name)) is not None}
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def load_result(file: Path) -> WorldResult:
    """Read what `save_result` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        scores = {name.removeprefix("score."): arrays[name] for name in arrays.files if name.startswith("score.")}
        distance, actions, clips = (
            arrays[name] if name in arrays.files else None for name in ("distance", "actions", "clips")
        )
        return WorldResult(arrays["success"], distance, scores, actions, clips)
