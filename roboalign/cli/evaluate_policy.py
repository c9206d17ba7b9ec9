"""`python -m roboalign evaluate-policy`: the success of a policy."""

import argparse
from pathlib import Path

HELP = "the success of a policy in the simulator and in the world models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `evaluate-policy`."""
    parser.epilog = "module:function runs code of your choice with your rights; see docs/policies.md."
    parser.add_argument("policy", metavar="POLICY",
                         help="module:function, ws://HOST:PORT (openpi's protocol), or a policy of specs/policies as "
                         "FILE/NAME, such as tiny/random")  # fmt: skip
    parser.add_argument("--source", required=True, metavar="NAME", help="a source of the experiment, such as fetch")
    parser.add_argument("--world", action="append", choices=("simulator", "supervised", "aligned"),
                         help="where it acts; may be repeated (aligned)")  # fmt: skip
    parser.add_argument("--episodes", type=int, default=8, metavar="N", help="episodes to start from (8)")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="theirs (test)")
    parser.add_argument("--horizon", type=int, default=30, metavar="N", help="frames of an episode (30)")
    parser.add_argument(
        "--time-limit",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds of a step of module:function or a server (60)",
    )
    parser.add_argument("--clip", action="store_true", help="clip actions beyond the source's measured range")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="of a world model; 0 is greedy (0)")
    parser.add_argument("--seed", type=int, default=0, help="of policy and world model (0)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")
    parser.add_argument("--out", type=Path, metavar="PNG", help="write a sheet of frames, one row an episode")


def run(arguments: argparse.Namespace) -> int:
    """Run `evaluate-policy`; the exit code."""
    import sys

    for name, least, most in (("episodes", 1, 100_000), ("horizon", 1, 1024), ("time-limit", 0.001, 3600),
                              ("temperature", 0, 10), ("seed", 0, 2**31 - 1)):  # fmt: skip
        value = getattr(arguments, name.replace("-", "_"))
        if not least <= value <= most:  # NaN, too
            print(f"error: --{name} is {value}; it must be between {least} and {most}", file=sys.stderr)
            return 2
    from roboalign.evaluate_policy.command import run as run_evaluation
    from roboalign.spec.single import single

    file = arguments.root / "specs/policies" / f"{arguments.policy.partition('/')[0]}.yaml"
    declared = None if ":" in arguments.policy else single(arguments.root, file, "policies")
    return run_evaluation(
        arguments.root, arguments.policy, declared, arguments.source, arguments.world or ["aligned"],
        split=arguments.split, episodes=arguments.episodes, horizon=arguments.horizon,
        time_limit=arguments.time_limit, clip=arguments.clip, temperature=arguments.temperature,
        seed=arguments.seed, device=arguments.device, out=arguments.out,
    )  # fmt: skip
