"""Steps a second of the environments: `python -m benchmarks.env --experiment FOLDER [--leak 10000] [--write]`.

The vector environment of the world model at 1, 8 and 32 copies, over whole episodes and their resets, with and without
the state probe that perceives success; beside it, in the same run, the robot's own environment, whose step is several
control steps and one rendered frame, and its simulator alone, rendered at every control step. `--leak` then takes as
many random steps over several episodes, and tells the process's memory on the way.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.results import machine, record
from roboalign.env import RobotVectorEnv, WorldModelVectorEnv
from roboalign.env.vector import EpisodeVectorEnv
from roboalign.probe.spec import ProbeName

COPIES = (1, 8, 32)
PROBES: dict[str, ProbeName | None] = {"world model, images": None, "world model, images and success": "gold"}


def steps_per_second(envs: EpisodeVectorEnv, seconds: float) -> float:
    """Steps of all copies together in a second, over whole episodes of at least `seconds` in all, after one step."""
    envs.action_space.seed(0)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        envs.reset()
        for _ in range(envs.horizon):
            envs.step(envs.action_space.sample())
        steps += envs.horizon * envs.num_envs
    return steps / (time.perf_counter() - began)


def control_steps_per_second(robots: RobotVectorEnv, seconds: float) -> float:
    """Control steps of one simulator in a second, each of them rendered."""
    robots.reset(seed=0)
    simulator = robots.simulators[0]
    assert simulator is not None
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        simulator.step(robots.single_action_space.sample().astype(np.float64))
        simulator.frame()
        steps += 1
    return steps / (time.perf_counter() - began)


def memory_rows(envs: EpisodeVectorEnv, steps: int) -> list[tuple[int, float]]:
    """Resident memory in MiB after each fifth of `steps` steps of all copies together, after one episode."""
    process, rows, done = psutil.Process(), [], 0
    envs.reset(seed=0)
    for _ in range(envs.horizon):
        envs.step(envs.action_space.sample())
    marks = [0, *(steps * fifth // 5 for fifth in range(1, 6))]
    while True:
        while marks and done >= marks[0]:
            rows.append((marks.pop(0), process.memory_info().rss / 2**20))
        if not marks:
            return rows
        if (envs.terminated | envs.truncated).all():
            envs.reset()
        envs.step(envs.action_space.sample())
        done += envs.num_envs


def main() -> None:
    """Measure and print the tables; `--write` keeps them in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", type=Path, default=Path(), help="folder of a finished experiment")
    parser.add_argument("--robot", default="metaworld", choices=("metaworld", "fetch", "panda", "jaco"))
    parser.add_argument("--seconds", type=float, default=5.0, help="least duration of a measurement")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--leak", type=int, default=0, metavar="N", help="random steps of which memory is told")
    parser.add_argument("--write", action="store_true", help="write the tables to benchmarks/RESULTS.md")
    parser.add_argument("--note", default="", help="a sentence on the circumstances, for RESULTS.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    robots = RobotVectorEnv(1, robot=arguments.robot, experiment=arguments.experiment, terminate_on_success=False)
    source = robots.scale.source
    lines = [
        f"`python -m benchmarks.env`: {machine()} {arguments.threads} threads, {source}. {arguments.note}".strip(),
        "",
        "| environment | copies | steps/s | of a rendered control step |",
        "| --- | --- | --- | --- |",
    ]
    control = control_steps_per_second(robots, arguments.seconds)

    def tell(name: str, copies: int, measure: Callable[[], float]) -> None:
        speed = measure()
        lines.append(f"| {name} | {copies} | {speed:.1f} | {speed / control:.2f} |")
        print(lines[-1], flush=True)

    tell("simulator, every control step rendered", 1, lambda: control)
    stride = robots.robot_spec.stride
    tell(f"robot, {stride} control steps and a frame", 1, partial(steps_per_second, robots, arguments.seconds))
    robots.close()
    for copies in COPIES:
        for name, probe in PROBES.items():
            envs = WorldModelVectorEnv(
                copies, source=source, experiment=arguments.experiment, reward="none", probe=probe,
                terminate_on_success=False,
            )  # fmt: skip
            tell(name, copies, partial(steps_per_second, envs, arguments.seconds))
    if arguments.leak:
        envs = WorldModelVectorEnv(8, source=source, experiment=arguments.experiment)
        lines += ["", "| random steps, 8 copies, reward of the student | MiB |", "| --- | --- |"]
        for steps, size in memory_rows(envs, arguments.leak):
            lines.append(f"| {steps} | {size:.1f} |")
            print(lines[-1], flush=True)
    if arguments.write:
        record("Environments", "\n".join(lines))


if __name__ == "__main__":
    main()
