"""The simulated robots themselves: short recordings of every task."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from roboalign.hardware.spec import ProcessesSpec
from roboalign.io import digest
from roboalign.sources.builder import build_simulator
from roboalign.sources.shards import divide, make_shard, materialise
from roboalign.sources.simulators.record import Assignment, record
from roboalign.sources.spec import SimulatedRobotSpec, SourceSpec
from roboalign.store import EpisodeStore
from roboalign.types import STATE_NAMES, Episode, Policy

ADAPTER: TypeAdapter[SimulatedRobotSpec] = TypeAdapter(SourceSpec)
TASKS = [
    ("metaworld", "push"),
    ("metaworld", "pick_place"),
    ("metaworld", "drawer_close"),
    ("metaworld", "door_open"),
    ("fetch", "push"),
    ("fetch", "pick_and_place"),
    ("panda", "push"),
    ("panda", "pick_and_place"),
    ("jaco", "push"),
    ("jaco", "lift"),
]


def one(kind: str, task: str, policy: Policy = "expert", number: int = 1, **changes: object) -> Episode:
    spec = ADAPTER.validate_python({"kind": kind, **changes})
    simulator = build_simulator(spec, task)
    try:
        return record(spec, kind, Assignment(number, task, "do it", policy, "train"), simulator)
    finally:
        simulator.close()


@pytest.mark.parametrize(("kind", "task"), TASKS)
def test_the_expert_solves_the_task_in_view(kind: str, task: str) -> None:
    episode = one(kind, task)
    assert episode.frames.shape == (32, 64, 64, 3)
    assert episode.success
    state, points = episode.state, episode.keypoints
    assert state is not None
    assert points is not None
    assert state[0, STATE_NAMES.index("success")] == 0
    assert state[:, STATE_NAMES.index("contact")].any()
    assert (state[:, STATE_NAMES.index("penetration")] < 0.02).all()
    assert ((points > 0) & (points < 1)).all(), "gripper, object and goal stay in the image"
    assert np.linalg.norm(points[-1, 2:4] - points[-1, 4:6]) < 0.15, "the object ends at the goal"
    assert np.ptp(episode.actions, axis=0).max() > 0.1
    # The colours are where the projection says: green at the goal, as soon as nothing hides it.
    u, v = (points[0, 4:6] * 64).astype(int)
    red, green, blue = episode.frames[:, v - 2 : v + 3, u - 2 : u + 3].reshape(-1, 3).astype(int).T
    assert ((green > red + 30) & (green > blue + 30)).any()


@pytest.mark.parametrize(
    ("kind", "task"), [("metaworld", "push"), ("fetch", "push"), ("panda", "push"), ("jaco", "lift")]
)
def test_an_episode_does_not_depend_on_those_before_it(kind: str, task: str) -> None:
    spec = ADAPTER.validate_python({"kind": kind, "length": 6, "image": {"height": 32, "width": 32}})
    simulator = build_simulator(spec, task)
    try:
        jobs = [Assignment(n, task, "do it", policy, "train") for n, policy in ((1, "noisy_expert"), (2, "random"))]
        first = [record(spec, kind, job, simulator) for job in jobs]
        again = [record(spec, kind, job, simulator) for job in reversed(jobs)][::-1]
    finally:
        simulator.close()
    alone = one(kind, task, "random", 2, length=6, image={"height": 32, "width": 32})
    for left, right in ((first[0], again[0]), (first[1], again[1]), (first[1], alone)):
        assert left.state is not None
        assert right.state is not None
        np.testing.assert_array_equal(left.actions, right.actions)
        np.testing.assert_array_equal(left.state, right.state)
        np.testing.assert_array_equal(left.frames, right.frames)


@pytest.mark.parametrize("kind", ["metaworld", "fetch", "panda", "jaco"])
def test_the_rate_of_frames_is_the_simulators(kind: str) -> None:
    spec = ADAPTER.validate_python({"kind": kind})
    simulator = build_simulator(spec, next(iter(spec.tasks)))
    simulator.close()
    assert spec.fps == pytest.approx(simulator.rate / spec.stride)


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    spec = ADAPTER.validate_python({"kind": "fetch", "episodes": 4, "length": 3, "image": {"height": 32, "width": 32}})
    told: list[tuple[int, int, str]] = []
    for workers in (1, 2):
        scratch = tmp_path / f"scratch{workers}"
        executor = ProcessesSpec(kind="processes", workers=workers)
        output, cache = tmp_path / str(workers), tmp_path / "cache"
        materialise(spec, "fetch", output, scratch, cache, executor, lambda *done: told.append(done))
    assert digest([tmp_path / "1/data", tmp_path / "1/meta"]) == digest([tmp_path / "2/data", tmp_path / "2/meta"])
    assert told[:2] == [(1, 2, "2 episodes"), (2, 2, "4 episodes")]
    store = EpisodeStore(tmp_path / "1")
    assert [info.id for info in store.infos] == [f"fetch/{number:06d}" for number in range(4)]


def test_a_shard_that_a_killed_run_left_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ADAPTER.validate_python({"kind": "fetch", "episodes": 2, "length": 2, "image": {"height": 32, "width": 32}})
    shards = divide(spec, "fetch", tmp_path, tmp_path / "cache")
    assert make_shard(shards[0]).frames == 2
    monkeypatch.setattr("roboalign.sources.shards.build_simulator", lambda *_: pytest.fail("recorded again"))
    assert make_shard(shards[0]).frames == 2


WORKER = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from roboalign.sources.shards import divide, make_shard
from roboalign.sources.simulators.spec import FetchSpec

if __name__ == "__main__":
    spec = FetchSpec(kind="fetch", episodes=1, length=2)
    shard = next(shard for shard in divide(spec, "fetch", Path(sys.argv[1]), Path()) if shard.work)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        print(pool.submit(make_shard, shard).result().frames)
"""


def test_a_worker_that_recorded_ends_without_a_word(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=True, env=environment
    )
    assert (done.stdout, done.stderr) == ("2\n", "")
