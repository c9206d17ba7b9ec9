"""Policies that are declared under specs/policies, for any finished experiment."""

from collections.abc import Callable
from pathlib import Path

import torch

from roboalign.errors import StageError
from roboalign.io import find_output
from roboalign.pipeline.policies import make_policy_parts, simulated_robots
from roboalign.pipeline.video_models import SOURCES
from roboalign.policies.behavior_cloning import CloningNetwork, load_network
from roboalign.policies.build import build_policy
from roboalign.policies.policy import Policy, Robot
from roboalign.policies.spec import BehaviorCloningSpec, PoliciesSpec, ScriptedPolicySpec
from roboalign.run import read_stage
from roboalign.store import Corpus


def declared_policy_maker(root: Path, policy: str, spec: PoliciesSpec, device: str) -> Callable[[Robot], Policy]:
    """A function that makes the policy `FILE/NAME`, which specs/policies/FILE.yaml declares.

    Args:
        root: The folder of a finished experiment.
        policy: `FILE/NAME`, such as tiny/servo.
        spec: What the file declares.
        device: Device of the policy's models.

    Raises:
        StageError: There is no such policy, it does not act on images, or something that it needs is missing.
    """
    file, separator, name = policy.partition("/")
    if not separator:
        raise StageError(f"'{policy}' does not name a policy; write module:function, ws://HOST:PORT or FILE/NAME")
    if name not in spec.policies:
        raise StageError(f"specs/policies/{file}.yaml declares no policy {name}; it has: {', '.join(spec.policies)}")
    chosen = spec.policies[name]
    if isinstance(chosen, ScriptedPolicySpec):
        raise StageError(
            f"{policy} is scripted: it acts on the simulator's state; name a policy that acts on images, or run the "
            "stage `policies`"
        )
    run = read_stage("policies", root=root)
    corpus = Corpus.open(run.input(SOURCES))
    networks = {}
    if isinstance(chosen, BehaviorCloningSpec):
        network = spec.network_of(chosen.model)
        networks[network] = load_trained(root, network, chosen)
    parts = make_policy_parts(run, spec, networks, corpus, simulated_robots(run), torch.device(device))
    return lambda robot: build_policy(chosen, robot, parts)


def load_trained(root: Path, name: str, spec: BehaviorCloningSpec) -> CloningNetwork:
    """The network that the stage `policies` trained. Raises StageError if it trained none, or by another spec."""
    path = f"artifacts/policies/{name}.safetensors"
    network = load_network(find_output(root, path))
    if network.spec != spec.model:
        raise StageError(f"{path} was trained by another spec; run `dvc repro policies` with the policies of that file")
    return network
