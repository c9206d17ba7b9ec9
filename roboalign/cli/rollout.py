"""`python -m roboalign rollout`: what the world model predicts."""

import argparse
from pathlib import Path

HELP = "show what the world model predicts for an episode's first picture and any actions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rollout`."""
    parser.epilog = "The same in Python, as a Gymnasium environment: docs/environments.md."
    parser.add_argument("--episode", required=True, metavar="ID", help="a recorded episode, such as fetch/000012")
    parser.add_argument("--actions", type=Path, metavar="FILE",
                         help="a row a step in the source's units, .npy or JSON (the recorded ones)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("rollout.mp4"), metavar="FILE",
                         help=".mp4, .png (a strip) or .npy (rollout.mp4)")  # fmt: skip
    parser.add_argument("--model", choices=("aligned", "supervised"), default="aligned", help="which (aligned)")
    parser.add_argument("--decoding", metavar="NAME",
                         help="one of the experiment's rollout.decodings (its rollout.scored_decoding)")  # fmt: skip
    parser.add_argument("--start", type=int, default=0, metavar="N", help="the episode's frame to begin with (0)")
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="how many to predict (one an action)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest tokens (0)")
    parser.add_argument("--seed", type=int, default=0, help="of the random draws (0)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Run `rollout`; the exit code."""
    from roboalign.simulation.command import run as simulate

    return simulate(
        arguments.root,
        arguments.episode,
        arguments.actions,
        arguments.out,
        model=arguments.model,
        decoding=arguments.decoding,
        start=arguments.start,
        frames=arguments.frames,
        temperature=arguments.temperature,
        seed=arguments.seed,
        device=arguments.device,
    )
