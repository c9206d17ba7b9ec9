"""`python -m roboalign evaluate-policy`: one policy in the simulator or in a world model."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from roboalign.checkpoint import CheckpointError
from roboalign.errors import StageError
from roboalign.evaluate_policy.evaluate import PolicyEvaluationResult, evaluate
from roboalign.io import find_output, replacing
from roboalign.policies.adapters import load_callable
from roboalign.policies.baselines import ConstantPolicy, RandomPolicy
from roboalign.policies.behavior_cloning import BehaviorCloningPolicy, load_network
from roboalign.policies.policy import Policy, Robot
from roboalign.policies.server import ServerPolicy
from roboalign.policies.spec import (
    BehaviorCloningSpec,
    ConstantPolicySpec,
    PolicyServerSpec,
    RandomPolicySpec,
)
from roboalign.spec.base import Split


def run(
    root: Path,
    policy: str,
    source: str,
    worlds: list[str],
    *,
    split: Split,
    episodes: int,
    horizon: int,
    time_limit: float,
    seed: int,
    device: str,
    out: Path | None,
) -> int:
    """Evaluate a policy and print its success. Returns the exit code: 0, or 1 if something is missing or the policy
    failed."""
    try:
        make = policy_maker(root, policy, time_limit)
        for world in worlds:
            result = evaluate(
                make, root, source, world, name=policy, split=split, episodes=episodes, horizon=horizon,
                time_limit=time_limit, seed=seed, device=device,
            )  # fmt: skip
            rate = result.rate
            print(f"{policy} on {source} in {world}: success {rate.mean:.2f} [{rate.low:.2f}, {rate.high:.2f}] of "
                  f"{rate.n} {split} episodes, {horizon} frames")  # fmt: skip
            if out is not None:
                file = out.with_name(f"{out.stem}.{world}{out.suffix}") if len(worlds) > 1 else out
                write_sheet(file, result)
                print(f"{file}: one row an episode, frames from left to right")
    except (StageError, CheckpointError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def policy_maker(root: Path, policy: str, time_limit: float) -> Callable[[Robot], Policy]:
    """A function that makes the policy `module:function`, the server `ws://…`, `constant`, `random`, or a network of
    behaviour cloning that the stage `policies` trained."""
    if policy.startswith(("ws://", "wss://")):
        server = PolicyServerSpec(kind="server", url=policy)
        return lambda robot: ServerPolicy(server, robot, time_limit)
    if ":" in policy:
        sys.path.insert(0, "")  # as `python -m` has it: modules of the current folder
        return lambda robot: load_callable(policy, robot)
    if policy == "constant":
        return lambda robot: ConstantPolicy(ConstantPolicySpec(kind="constant"), robot)
    if policy == "random":
        return lambda robot: RandomPolicy(RandomPolicySpec(kind="random"), robot)
    network = load_network(find_output(root, f"artifacts/policies/{policy}.safetensors"))
    return lambda robot: BehaviorCloningPolicy(
        BehaviorCloningSpec(kind="behavior_cloning", model=network.spec), network, robot
    )


def write_sheet(file: Path, result: PolicyEvaluationResult, columns: int = 11) -> None:
    """Write an image with one row of frames for each episode."""
    frames = result.loop.frames
    chosen = np.unique(np.linspace(0, frames.shape[1] - 1, columns).round().astype(int))
    rows = [np.concatenate(list(clip[chosen]), 1) for clip in frames]
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        Image.fromarray(np.concatenate(rows, 0)).save(temporary, "PNG")
