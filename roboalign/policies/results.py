"""Results of policies in several worlds, and the metrics that are derived from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboalign.metrics.policy_ranking import agreement_difference, masked_rate, random_agreement, ranking_agreement
from roboalign.metrics.statistics import wilson
from roboalign.policies.spec import PoliciesSpec, ScriptedPolicySpec
from roboalign.types import Float32, Json, UInt8

Floats = NDArray[np.float64]

SIMULATOR = "simulator"
"""The world whose success is the truth."""
MODELS = ("supervised", "aligned")
"""The world models, as worlds."""
OTHER_FRAMES = "other_frames"
"""The supervised model from first frames of another task."""


def replay_of(model: str) -> str:
    """The world in which a model replays the actions that policies took in the simulator."""
    return f"{model}.replay"


@dataclass(frozen=True)
class WorldResult:
    """The results of one policy on the E episodes of one source in one world."""

    success: Float32
    """(E, T): in the simulator 1 if frame t + 1 is a success and 0 if not, in a world model its probability."""
    distance: Float32 | None = None
    """(E, T), metres from the object in frame t + 1 to the goal in frame 0, as perceived; kept of world models only."""
    scores: Mapping[str, Float32] = field(default_factory=dict)
    """(E,) by scorer: the normalised score of success of the whole clip."""
    actions: Float32 | None = None
    """(E, T, A), in the source's units; kept in the simulator only."""
    clips: UInt8 | None = None
    """(C, T + 1, H, W, 3), the first C episodes."""


@dataclass
class PolicyResults:
    """All results, by world, policy and source."""

    spec: PoliciesSpec
    episodes: Mapping[str, Sequence[str]]
    """The episodes of each source."""
    worlds: dict[str, dict[str, dict[str, WorldResult]]] = field(default_factory=dict)
    cloning_error: dict[str, dict[str, float]] = field(default_factory=dict)
    """The mean absolute error of normalised actions on held-out demonstrations, by policy and source; only of policies
    that act on images."""

    def add(self, world: str, policy: str, source: str, result: WorldResult) -> None:
        """Keep a result."""
        self.worlds.setdefault(world, {}).setdefault(policy, {})[source] = result

    def has(self, world: str, policies: Iterable[str] = ()) -> bool:
        """Whether a world has results of all these policies."""
        return world in self.worlds and all(policy in self.worlds[world] for policy in policies)

    @property
    def sources(self) -> list[str]:
        """All sources."""
        return list(self.episodes)

    def acts_on_images(self, policy: str) -> bool:
        """Whether a policy acts in closed loop in the world models, too."""
        return not isinstance(self.spec.policies[policy], ScriptedPolicySpec)

    def table(
        self,
        world: str,
        policies: Sequence[str],
        sources: Sequence[str],
        judge: str = "probe",
        horizon: int | None = None,
    ) -> Floats:
        """Success (P, E) of policies in a world, the episodes of all `sources` side by side.

        `judge` is `probe`, whether the last frame is a success; `probe_any`, whether any frame is; `probability`, the
        probability of the last frame; `distance`, whether the object of the last frame is near the goal of the first;
        or the name of a scorer. NaN for sources that a policy was not evaluated on.
        """
        last = (horizon or self.spec.horizon) - 1

        def row(policy: str, source: str) -> Floats:
            if source not in self.worlds[world].get(policy, {}):
                return np.full(len(self.episodes[source]), np.nan)
            result = self.worlds[world][policy][source]
            success = result.success[:, : last + 1]
            value: Any = result.scores.get(judge)
            if judge == "probe":
                value = success[:, -1] >= self.spec.threshold
            elif judge == "probe_any":
                value = success.max(1) >= self.spec.threshold
            elif judge == "probability":
                value = success[:, -1]
            elif judge == "distance" and result.distance is not None:
                value = result.distance[:, last] <= self.spec.near
            assert value is not None, f"no result by {judge}"
            return np.asarray(value, np.float64)

        return np.stack([np.concatenate([row(policy, source) for source in sources]) for policy in policies])

    def select_evaluated(self, policies: Iterable[str], sources: Iterable[str]) -> list[str]:
        """The policies that were evaluated on at least one of `sources`."""
        found, where = self.worlds.get(SIMULATOR, {}), set(sources)
        return [policy for policy in policies if where & set(found.get(policy, {}))]

    def truth(
        self, policies: Sequence[str], sources: Sequence[str], judge: str = "probe", horizon: int | None = None
    ) -> Floats:
        """Success (P, E) in the simulator: of the last frame, or for `probe_any` of any frame."""
        return self.table(SIMULATOR, policies, sources, "probe_any" if judge == "probe_any" else "probe", horizon)


class PolicyMetrics:
    """Derives metrics/policies.json from results."""

    def __init__(self, results: PolicyResults) -> None:
        self.results, self.spec = results, results.spec
        self.policies = list(results.spec.policies)

    def json(self) -> dict[str, Json]:
        """All metrics; those of worlds that were not evaluated are absent."""
        results, models = self.results, [model for model in MODELS if self.results.has(model)]
        value: dict[str, Json] = {
            "split": self.spec.split,
            "episodes": {source: len(ids) for source, ids in results.episodes.items()},
            "horizon": self.spec.horizon,
            "policies": {policy: self.policy(policy, models) for policy in self.policies},
        }
        if len(self.policies) < 2 or not models or not results.episodes:
            return value
        acting = [policy for policy in self.policies if results.acts_on_images(policy)]
        judges = self.judges(models)
        value["agreement"] = {
            model: {
                "pooled": self.agreement(model),
                "by_source": {source: self.agreement(model, sources=[source]) for source in results.sources},
                **({"closed_loop": self.agreement(model, acting)} if len(acting) > 1 else {}),
            }
            for model in models
        }
        if len(models) == len(MODELS):
            value["agreement_difference"] = {judge: self.difference(judge) for judge in judges}
        value["by_horizon"] = {
            str(horizon): {model: self.agreement(model, horizon=horizon) for model in models}
            for horizon in sorted({*self.spec.horizons, self.spec.horizon})
        }
        value["by_decoding"] = {
            name: self.agreement(world)
            for name, world in {
                self.spec.decoding.kind: "supervised",
                **{name: f"supervised.{name}" for name in self.spec.compared_decodings},
            }.items()
            if results.has(world, self.policies)
        }
        value["by_judge"] = {judge: {model: self.agreement(model, judge=judge) for model in models} for judge in judges}
        value["baselines"] = self.baselines(acting)
        value["optimism"] = self.optimism(models)
        value["gates"] = self.gates(value["optimism"])
        return value

    def judges(self, models: Sequence[str]) -> list[str]:
        """The judges of success that all results of the models have."""
        every = [one for model in models for each in self.results.worlds[model].values() for one in each.values()]
        scorers = [name for name in every[0].scores if all(name in one.scores for one in every)]
        return ["probe", "probe_any", "probability", "distance", *scorers]

    def policy(self, policy: str, models: Sequence[str]) -> dict[str, Json]:
        """The success of one policy in each world, with Wilson's intervals, pooled and by source."""
        results = self.results
        value: dict[str, Json] = {
            "kind": self.spec.policies[policy].kind,
            "open_loop": not results.acts_on_images(policy),
        }
        for world in (SIMULATOR, *models):
            if results.has(world, [policy]):
                sources = [source for source in results.sources if source in results.worlds[world][policy]]
                value[world] = {
                    **wilson(results.table(world, [policy], sources)[0]).json(),
                    "by_source": {
                        source: wilson(results.table(world, [policy], [source])[0]).json() for source in sources
                    },
                }
        if policy in results.cloning_error:
            value["cloning_error"] = results.cloning_error[policy]
        return value

    def agreement(
        self,
        world: str,
        policies: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        judge: str = "probe",
        horizon: int | None = None,
    ) -> Json:
        """How a world ranks policies, against the simulator; of `policies`, those that were evaluated on `sources`."""
        where = sources or self.results.sources
        names = self.results.select_evaluated(policies or self.policies, where)
        if not names:
            return {}
        model = self.results.table(world, names, where, judge, horizon)
        truth = self.results.truth(names, where, judge, horizon)
        return ranking_agreement(model, truth, self.spec.draws, self.spec.seed)

    def difference(self, judge: str) -> Json:
        """The difference in agreement with the simulator, aligned minus supervised: all policies and
        sources."""
        where = self.results.sources
        names = self.results.select_evaluated(self.policies, where)
        before, after = (self.results.table(model, names, where, judge) for model in MODELS)
        return agreement_difference(
            before, after, self.results.truth(names, where, judge), self.spec.draws, self.spec.seed
        )

    def baselines(self, acting: Sequence[str]) -> dict[str, Json]:
        """Rankings that do without the world model or without the scene."""
        results, value = self.results, dict[str, Json]()
        truth = results.truth(self.policies, results.sources)
        value["random_judge"] = random_agreement(truth, self.spec.draws, self.spec.seed)
        if results.has(OTHER_FRAMES, self.policies):
            value[OTHER_FRAMES] = self.agreement(OTHER_FRAMES)
        ranked = [policy for policy in acting if policy in results.cloning_error]
        if len(ranked) > 1:
            truth = results.truth(ranked, results.sources)
            scores = np.array([-np.mean(list(results.cloning_error[policy].values())) for policy in ranked])
            table = np.repeat(scores[:, None], truth.shape[1], 1)
            value["cloning_error"] = ranking_agreement(table, truth, self.spec.draws, self.spec.seed)
        return value

    def optimism(self, models: Sequence[str]) -> dict[str, Json]:
        """The false and the missed success of each model on actions of known outcome, and what alignment changes."""
        worlds = {model: replay_of(model) for model in models if self.results.has(replay_of(model))}
        if not worlds:
            return {}
        names = [p for p in self.policies if all(p in self.results.worlds[world] for world in worlds.values())]
        sources = self.results.sources

        def rates(tables: Mapping[str, Floats], truth: Floats) -> dict[str, Json]:
            failed, succeeded = truth < 0.5, truth >= 0.5  # neither if it is NaN
            found: dict[str, Json] = {}
            for model, shown in tables.items():
                found[model] = _present(
                    false_success=masked_rate(shown, failed, self.spec.draws, self.spec.seed),
                    missed_success=masked_rate(1 - shown, succeeded, self.spec.draws, self.spec.seed),
                )
            if len(tables) == 2:
                before, after = (tables[model] for model in MODELS)
                found["difference"] = _present(
                    false_success=masked_rate(after - before, failed, self.spec.draws, self.spec.seed),
                    missed_success=masked_rate(before - after, succeeded, self.spec.draws, self.spec.seed),
                )
            return found

        def of(where: Sequence[str]) -> dict[str, Json]:
            tables = {model: self.results.table(world, names, where) for model, world in worlds.items()}
            return rates(tables, self.results.truth(names, where))

        return {**of(sources), "by_source": {source: of([source]) for source in sources}, "policies": names}

    @staticmethod
    def gates(optimism: Mapping[str, Json]) -> dict[str, Json]:
        """The gate on optimism, if it was measured."""
        change = optimism.get("difference", {}).get("false_success")
        if change is None:
            return {}
        return {
            "false_success": {
                "passed": change["low"] <= 0,
                "rule": "rate of false success on replayed actions, aligned minus supervised: interval not above 0",
                "figures": change,
            }
        }


def _present(**values: Json) -> dict[str, Json]:
    """The intervals that are not None, as JSON."""
    return {name: value.json() for name, value in values.items() if value is not None}
