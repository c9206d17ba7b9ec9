"""A policy of LeRobot in RoboAlign: LeRobot trains its ACT on a source's demonstrations, and it acts in every world.

python -m benchmarks.lerobot_policy PYTHON --experiment FOLDER --source fetch [--steps 2000] [--write]

PYTHON is an interpreter that has `lerobot[dataset,training]`, `websockets` and `msgpack`. There, `lerobot-train` reads
the episodes as the stage `episodes` wrote them, and `examples/serve_lerobot.py` serves the trained policy by websocket.
ACT has no input for the instruction; it has to tell tasks apart by the image.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.results import machine, record
from roboalign.evaluate_policy.evaluate import evaluate
from roboalign.policies.server import ServerPolicy
from roboalign.policies.spec import PolicyServerSpec
from roboalign.store import EpisodeStore

IMAGE = "observation.images.main"
EXPERTS = ("expert", "noisy_expert")
SERVER = Path(__file__).parents[1] / "examples/serve_lerobot.py"
WORLDS = ("simulator", "supervised", "aligned")


def demonstrations(store: EpisodeStore, task: str | None) -> list[int]:
    """The train episodes of experts that succeed, of one task or of all."""
    return [
        number
        for number, info in enumerate(store.infos)
        if info.split == "train" and info.policy in EXPERTS and info.success and task in (None, info.task)
    ]


def train(python: str, store: EpisodeStore, episodes: Sequence[int], out: Path, arguments: argparse.Namespace) -> Path:
    """Let LeRobot train ACT; the folder of the policy. Its image is the only input: states are the simulator's."""
    height, width = store.tiles[IMAGE].height, store.tiles[IMAGE].width
    options = {
        "dataset.repo_id": "roboalign/store",
        "dataset.root": store.folder.resolve(),
        "dataset.episodes": list(episodes),
        "dataset.use_imagenet_stats": "false",
        "policy.type": "act",
        "policy.device": "cpu",
        "policy.push_to_hub": "false",
        "policy.pretrained_backbone_weights": "null",
        "policy.input_features": f'{{"{IMAGE}": {{"type": "VISUAL", "shape": [3, {height}, {width}]}}}}',
        "policy.chunk_size": 8,
        "policy.n_action_steps": 8,
        "policy.dim_model": 128,
        "policy.dim_feedforward": 256,
        "policy.n_vae_encoder_layers": 2,
        "policy.optimizer_lr": 3e-4,
        "policy.optimizer_lr_backbone": 3e-4,
        "batch_size": 32,
        "steps": arguments.steps,
        "save_freq": arguments.steps,
        "log_freq": 100,
        "num_workers": 0,
        "output_dir": out,
    }
    command = [python, "-m", "lerobot.scripts.lerobot_train", *(f"--{name}={value}" for name, value in options.items())]
    subprocess.run(command, env=environment(out.parent, arguments.threads), check=True)
    return out / f"checkpoints/{arguments.steps:06d}/pretrained_model"


def environment(home: Path, threads: int) -> dict[str, str]:
    """The environment variables of LeRobot's processes: no hub, and no modules of ours."""
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return own | {"HF_HOME": str(home / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}


@contextmanager
def served(python: str, policy: Path, home: Path, threads: int) -> Iterator[str]:
    """Serve a policy on a free port; the server's address."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [python, str(SERVER), str(policy), "--port", str(port)]
    with subprocess.Popen(command, env=environment(home, threads)) as process:
        try:
            for _ in range(600):
                if process.poll() is not None:
                    raise RuntimeError(f"{SERVER.name} ended with {process.returncode}")
                with socket.socket() as client:
                    if client.connect_ex(("localhost", port)) == 0:
                        break
                time.sleep(0.2)
            yield f"ws://localhost:{port}"
        finally:
            process.send_signal(signal.SIGTERM)


def main() -> None:
    """Train, serve, evaluate and print a table; `--write` keeps it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="interpreter of LeRobot's environment")
    parser.add_argument("--experiment", type=Path, default=Path(), help="folder of a finished experiment")
    parser.add_argument("--source", default="fetch")
    parser.add_argument("--task", help="demonstrations of this task only")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--episodes", type=int, default=24, help="validation episodes in each world")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    root, source = arguments.experiment, arguments.source
    store = EpisodeStore(root / f"artifacts/episodes/{source}")
    episodes = demonstrations(store, arguments.task)
    if not episodes:
        sys.exit(f"{source} has no successful train episodes of experts")
    with tempfile.TemporaryDirectory() as temporary:
        home, began = Path(temporary), time.monotonic()
        policy = train(arguments.python, store, episodes, home / "train", arguments)
        seconds = time.monotonic() - began
        lines = [
            f"`python -m benchmarks.lerobot_policy`: {machine()} ACT of LeRobot, trained by `lerobot-train` on "
            f"{len(episodes)} demonstrations of {source}, {arguments.steps} steps in {seconds:.0f} s, "
            f"{arguments.threads} threads; success of the last of 30 frames, {arguments.episodes} validation episodes.",
            "",
            "| world | success |",
            "| --- | --- |",
        ]
        with served(arguments.python, policy, home, arguments.threads) as url:
            spec = PolicyServerSpec(kind="server", url=url, execute=8)
            for world in WORLDS:
                result = evaluate(
                    lambda robot: ServerPolicy(spec, robot, 60.0), root, source, world, name="act", split="validation",
                    episodes=arguments.episodes, clip=True,
                )  # fmt: skip
                rate = result.rate
                lines.append(f"| {world} | {rate.mean:.2f} [{rate.low:.2f}, {rate.high:.2f}] |")
                print(lines[-1], flush=True)
    if arguments.write:
        record("A policy of LeRobot", "\n".join(lines))


if __name__ == "__main__":
    main()
