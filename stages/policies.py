"""Evaluate policies in the simulators and in the world models: `python -m stages.policies`."""

from typing import Any

import torch
from gymnasium.vector import VectorEnv

from roboalign.evaluate_policy.worlds import make_world
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import write_json, write_tsv
from roboalign.pipeline.policies import load_success_scorers, make_policy_parts, simulated_robots, train_networks
from roboalign.pipeline.policy_evaluation import PolicyEvaluation
from roboalign.pipeline.video_models import SOURCES
from roboalign.policies.outputs import episode_rows, rate_rows, write_clips
from roboalign.policies.results import PolicyMetrics, PolicyResults
from roboalign.policies.spec import PoliciesSpec
from roboalign.probe.model import load_probe
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus


def main(run: Run) -> None:
    """Run the stage."""
    spec: PoliciesSpec = run.section("policies", PoliciesSpec)
    robots = simulated_robots(run)
    device_spec: DeviceSpec = run.section("hardware.device", DeviceSpec)
    device, results, curves = torch.device(device_spec.accelerator), PolicyResults(spec, {}), list[dict[str, Any]]()

    def make_env(world: str, source: str, copies: int) -> "VectorEnv[Any, Any, Any]":
        model, _, decoding = world.partition(".")
        return make_world(
            run.root, model, source, copies, spec.horizon, temperature=spec.temperature, device=str(device),
            decoding=spec.compared_decodings[decoding] if decoding else spec.decoding,
        )  # fmt: skip

    if spec.policies and robots:
        corpus = Corpus.open(run.input(SOURCES))
        networks, curves = train_networks(run, spec, corpus, device_spec)
        parts = make_policy_parts(run, spec, networks, corpus, robots, device)
        score = load_success_scorers(run, run.section("reward", RewardSpec), device)
        probe = load_probe(run.input("artifacts/probe/gold/model.safetensors"))
        evaluation = PolicyEvaluation(run, spec, corpus, robots, parts, make_env, score, probe.covers)
        results = evaluation.evaluate()
    write_clips(run.output("artifacts/policies/clips"), results)
    write_tsv(run.output("artifacts/policies/success.tsv"), episode_rows(results))
    write_tsv(run.output("plots/policies.tsv"), rate_rows(results))
    write_tsv(run.output("plots/policies_training.tsv"), curves)
    write_json(run.output("metrics/policies.json"), PolicyMetrics(results).json())


if __name__ == "__main__":
    execute("policies", main)
