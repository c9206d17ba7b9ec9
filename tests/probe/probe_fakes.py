"""A small world with a camera in perspective: coloured squares over a table, recorded as simulators record."""

import numpy as np

from roboalign.probe.outcome import PerceivedEpisode
from roboalign.types import Episode, Float32, Split

CAMERA = np.array([[1.2, 0.1, -0.4, 0.5], [0.05, -0.7, -1.0, 0.75], [0.02, 0.6, -0.8, 1.0]])
CAMERA /= np.linalg.norm(CAMERA[2, :3])


def project(points: np.ndarray) -> np.ndarray:
    """Image coordinates (N, 2) of points (N, 3)."""
    rays = points @ CAMERA[:, :3].T + CAMERA[:, 3]
    return np.asarray(rays[:, :2] / rays[:, 2:])


def seen_episode(number: int, split: Split = "train", length: int = 10, size: int = 32) -> Episode:
    """A gripper in the air that comes down to an object, and carries it towards the goal in every other episode."""
    rng = np.random.default_rng(number)
    goal, item = np.array([rng.uniform(0.05, 0.2), rng.uniform(0.0, 0.2), 0.02]), np.zeros(3)
    item[:2] = rng.uniform(-0.2, 0.0, 2)
    start = np.array([*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.1, 0.2)])
    frames, states, points = [], [], []
    for t in range(length):
        share = min(1.0, 2 * t / length)
        carried = number % 2 == 0 and share == 1.0
        if carried:
            item = item + (goal - item) * 0.5
        gripper = start + (item - start) * share
        places = project(np.stack([gripper, item, goal]))
        image = np.full((size, size, 3), 40, np.uint8)
        for (u, v), colour in zip(places[::-1], ((220, 40, 40), (230, 200, 30), (60, 90, 230)), strict=True):
            row, column = int(np.clip(v, 0.1, 0.9) * size), int(np.clip(u, 0.1, 0.9) * size)
            image[row - 2 : row + 2, column - 2 : column + 2] = colour
        success = float(np.linalg.norm(item - goal) < 0.05)
        frames.append(image)
        states.append([*gripper, *item, *goal, 1 - share, carried, 3.0 * carried, 0.001 * carried, success])
        points.append(places.reshape(-1))
    return Episode(
        id=f"seen/{number:06d}", source="seen", task=("push", "place")[number % 2], instruction="push it",
        policy="expert", scene=f"seen/{number}", split=split, frames=np.stack(frames),
        actions=np.zeros((length, 4), np.float32), state=np.asarray(states, np.float32),
        keypoints=np.asarray(points, np.float32),
    )  # fmt: skip


def state_of(episode: Episode) -> Float32:
    assert episode.state is not None
    return episode.state


def perceived_walk(number: int, length: int = 10) -> PerceivedEpisode:
    """A world in which the gripper moves by 2 cm times the action, as a probe without errors perceives it."""
    rng = np.random.default_rng((number, 7))
    actions = rng.uniform(-1, 1, (length, 3)).astype(np.float32)
    states = np.zeros((length, 14), np.float32)
    states[:, :9] = rng.uniform(-0.2, 0.2, 9)
    states[1:, :3] += 0.02 * actions[:-1].cumsum(0)
    return PerceivedEpisode(states, actions, number % 2)
