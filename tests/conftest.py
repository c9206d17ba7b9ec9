"""Toy episodes: a gripper (blue square) moves as its actions say and pushes an object (yellow) to a goal (red)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dvc.logger
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from roboalign.types import Episode, Policy, Split

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SIZE = 32

# DVC's log handlers keep the streams of its first import, which must not be those that a test captures and closes.
dvc.logger.setup()

# Two test processes with two threads each on two cores run ten times slower.
torch.set_num_threads(1)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The array, which raises ValueError if a test writes to it: the episodes are shared."""
    array.flags.writeable = False
    return array


def toy_episode(number: int, *, length: int = 12, width: int = 4, split: Split = "train", size: int = SIZE) -> Episode:
    """Episode `number`: every third one pushes the object to the goal; the others wander."""
    rng = np.random.default_rng(number)
    gripper, goal = rng.uniform(0.2, 0.4, 2), rng.uniform(0.6, 0.8, 2)
    item = (gripper + goal) / 2
    policy: Policy = "expert" if number % 3 == 0 else "random"
    frames, actions, states, points = [], [], [], []
    for _ in range(length):
        target = goal if policy == "expert" else gripper + rng.normal(0, 0.3, 2)
        action = np.zeros(width)
        action[:2] = np.clip((target - gripper) * 2, -1, 1)
        touching = bool(np.abs(gripper - item).max() < 0.12)
        image = np.full((size, size, 3), 40, np.uint8)
        for centre, colour, radius in (
            (goal, (220, 40, 40), 2),
            (item, (230, 200, 30), 2),
            (gripper, (60, 90, 230), 3),
        ):
            u, v = (np.clip(centre, 0.1, 0.9) * size).astype(int)
            image[v - radius : v + radius, u - radius : u + radius] = colour
        frames.append(image)
        actions.append(action)
        success = bool(np.abs(item - goal).max() < 0.1)
        states.append([*gripper, 0.1, *item, 0.1, *goal, 0.1, 1.0, touching, 2.0 * touching, 0.0, success])
        points.append([*gripper, *item, *goal])
        step = action[:2] * 0.08
        gripper = np.clip(gripper + step, 0.1, 0.9)
        if touching and policy == "expert":
            item = np.clip(item + step, 0.1, 0.9)
    return Episode(
        id=f"toy/{number:06d}",
        source="toy",
        task="push",
        instruction=("push the yellow block to the red goal", "move the block to the red mark")[number % 2],
        policy=policy,
        scene=f"toy/{number}",
        split=split,
        frames=read_only(np.stack(frames)),
        actions=read_only(np.asarray(actions, np.float32)),
        state=read_only(np.asarray(states, np.float32)),
        keypoints=read_only(np.asarray(points, np.float32)),
    )


@pytest.fixture(scope="session")
def toy_episodes() -> list[Episode]:
    """Eighteen toy episodes of 12 frames of 32x32: twelve to train, three each to validate and test."""
    splits: list[Split] = ["train"] * 12 + ["validation"] * 3 + ["test"] * 3
    return [toy_episode(number, split=split) for number, split in enumerate(splits)]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium, for the tests of a module."""
    from browser import launch_chromium  # only for tests of pages: Playwright takes a while to import

    with launch_chromium() as launched:
        yield launched
