"""Evaluates any policy in one world, from the first frames of recorded episodes.

from roboalign.evaluate_policy.evaluate import evaluate
result = evaluate(MyPolicy, Path("."), "fetch", "aligned", episodes=8)
print(result.rate.mean, result.rate.low, result.rate.high)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roboalign.errors import StageError
from roboalign.evaluate_policy.worlds import WORLDS, make_world
from roboalign.io import find_output
from roboalign.metrics.statistics import Interval, wilson
from roboalign.pipeline.video_models import SOURCES
from roboalign.policies.checked_policy import CheckedPolicy
from roboalign.policies.closed_loop import ClosedLoop, run_closed_loop
from roboalign.policies.policy import Policy, Robot
from roboalign.spec.base import Split
from roboalign.store import Corpus

MAX_COPIES = 8
"""Episodes at once."""


@dataclass(frozen=True)
class PolicyEvaluationResult:
    """A policy's episodes in one world."""

    episodes: Sequence[str]
    loop: ClosedLoop
    rate: Interval
    """The rate of success at the last frame, with Wilson's 95 % interval."""


def evaluate(
    make_policy: Callable[[Robot], Policy],
    root: Path,
    source: str,
    world: str,
    *,
    name: str = "policy",
    split: Split = "test",
    episodes: int = 8,
    horizon: int = 30,
    threshold: float = 0.5,
    time_limit: float | None = 60.0,
    clip: bool = False,
    temperature: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
) -> PolicyEvaluationResult:
    """Evaluate a policy.

    Args:
        make_policy: Makes the policy for a robot.
        root: The folder of a finished experiment.
        source: The source of the robot.
        world: `simulator`, `supervised` or `aligned`.
        name: Name of the policy in messages.
        split: The split of the episodes.
        episodes: Number of episodes, spread evenly over the split.
        horizon: Frames of an episode.
        threshold: Probability from which a world model's last frame counts as success.
        time_limit: Maximum seconds of one step of the policy; None for no limit.
        clip: Clip actions beyond the source's measured range instead of raising an error.
        temperature: Temperature of the world model; 0 is greedy.
        seed: Seed of the policy and of the world model.
        device: Device of the world model.

    Raises:
        StageError: A file or an episode is missing; as PolicyError, the policy failed.
    """
    if world not in WORLDS:
        raise StageError(f"there is no world {world}; name one of {', '.join(WORLDS)}")
    corpus = Corpus.open(find_output(root, SOURCES)).filter(split=split, source=source)
    if not len(corpus):
        raise StageError(f"the experiment has no {split} episodes of a source {source}")
    count = min(episodes, len(corpus))
    ids = [corpus.infos[index * len(corpus) // count].id for index in range(count)]
    robot, copies = Robot(source, corpus.ranges[source]), min(MAX_COPIES, count)
    policy = CheckedPolicy(name, make_policy(robot), robot, time_limit, clip=clip)
    env, loops = make_world(root, world, source, copies, horizon, temperature=temperature, device=device), []
    try:
        for start in range(0, count, copies):
            batch = [ids[min(row, count - 1)] for row in range(start, start + copies)]
            seeds = [(seed + row) % 2**31 for row in range(start, start + copies)]
            loops.append(run_closed_loop(policy, env, batch, seeds, horizon))
    finally:
        env.close()
    loop = ClosedLoop.join(loops, count)
    if np.isnan(loop.success).any():
        raise StageError(f"the gold state probe does not cover all tasks of {source}, so its success is not known")
    return PolicyEvaluationResult(ids, loop, wilson(loop.success[:, -1] >= threshold))
