"""`python -m roboalign evaluate-policy`: one policy in the simulator or in a world model."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from roboalign.checkpoint import CheckpointError
from roboalign.errors import StageError
from roboalign.evaluate_policy.declared import declared_policy_maker
from roboalign.evaluate_policy.evaluate import PolicyEvaluationResult, evaluate
from roboalign.io import replacing
from roboalign.policies.adapters import load_callable
from roboalign.policies.policy import Policy, Robot
from roboalign.policies.server import ServerPolicy
from roboalign.policies.spec import PoliciesSpec, PolicyServerSpec
from roboalign.spec.base import Split


def run(
    root: Path,
    policy: str,
    declared: PoliciesSpec | None,
    source: str,
    worlds: list[str],
    *,
    split: Split,
    episodes: int,
    horizon: int,
    time_limit: float,
    clip: bool,
    temperature: float,
    seed: int,
    device: str,
    out: Path | None,
) -> int:
    """Evaluate a policy and print its success. Returns the exit code: 0, or 1 if something is missing or the policy
    failed. `declared` has the policies of the file that `policy` names."""
    try:
        make = policy_maker(root, policy, declared, time_limit, device)
        clip = clip or is_clipped(policy, declared)
        for world in worlds:
            result = evaluate(
                make, root, source, world, name=policy, split=split, episodes=episodes, horizon=horizon,
                time_limit=time_limit if ":" in policy else None, clip=clip, temperature=temperature, seed=seed,
                device=device,
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


def is_clipped(policy: str, declared: PoliciesSpec | None) -> bool:
    """Whether the declared policy `FILE/NAME` is a server whose spec asks for its actions to be clipped."""
    chosen = None if declared is None else declared.policies.get(policy.partition("/")[2])
    return isinstance(chosen, PolicyServerSpec) and chosen.clip


def policy_maker(
    root: Path, policy: str, declared: PoliciesSpec | None, time_limit: float, device: str
) -> Callable[[Robot], Policy]:
    """A function that makes the policy `module:function`, the server `ws://…`, or the declared policy `FILE/NAME`."""
    if policy.startswith(("ws://", "wss://")):
        server = PolicyServerSpec(kind="server", url=policy)
        return lambda robot: ServerPolicy(server, robot, time_limit)
    if ":" in policy:
        sys.path.insert(0, "")  # as `python -m` has it: modules of the current folder
        return lambda robot: load_callable(policy, robot)
    return declared_policy_maker(root, policy, declared or PoliciesSpec(), device)


def write_sheet(file: Path, result: PolicyEvaluationResult, columns: int = 11) -> None:
    """Write an image with one row of frames for each episode."""
    frames = result.loop.frames
    chosen = np.unique(np.linspace(0, frames.shape[1] - 1, columns).round().astype(int))
    rows = [np.concatenate(list(clip[chosen]), 1) for clip in frames]
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        Image.fromarray(np.concatenate(rows, 0)).save(temporary, "PNG")
