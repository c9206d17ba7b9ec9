"""Recording episodes of a simulated robot: which one is done by whom, and how one is recorded.

Episode `number` of a source depends on the spec and the number alone, so any division of the work gives the same data.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators.simulator import Simulator, Vector
from roboalign.sources.simulators.spec import NoiseSpec, SimulatedRobotSpec, TaskSpec
from roboalign.types import STATE_NAMES, Episode, Float32, Policy, Split

ATTEMPTS = 20
"""Scenes to try for an episode before giving up: those that start solved are left out."""
_XYZ = {name: slice(start, start + 3) for name, start in (("gripper", 0), ("object", 3), ("goal", 6))}
_SUCCESS = STATE_NAMES.index("success")
_CONTACT = slice(STATE_NAMES.index("contact"), STATE_NAMES.index("penetration") + 1)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What episode `number` of a source is to be."""

    number: int
    task: str
    instruction: str
    policy: Policy
    split: Split


def apportion(count: int, shares: list[float]) -> list[int]:
    """Whole numbers that add up to `count` and are nearest to the shares (largest remainders)."""
    exact = [count * share / sum(shares) for share in shares]
    parts = [math.floor(value) for value in exact]
    for index in sorted(range(len(shares)), key=lambda i: (parts[i] - exact[i], i))[: count - sum(parts)]:
        parts[index] += 1
    return parts


def assign(spec: SimulatedRobotSpec) -> list[Assignment]:
    """Task, policy, wording and split of every episode of a source.

    The shares of policies hold within each task, and those of splits over tasks and policies, as far as whole
    episodes allow.
    """
    mix, split = spec.policies, spec.split
    policies: list[Policy] = ["expert", "noisy_expert", "wrong_goal", "random"]
    shares = [mix.expert, mix.noisy_expert, mix.wrong_goal, mix.random]
    rng = np.random.default_rng([spec.seed, 1])
    tasks: dict[str, TaskSpec] = {str(name): task for name, task in spec.tasks.items()}
    cells: list[tuple[str, Policy]] = []
    for name, count in zip(tasks, apportion(spec.episodes, [t.weight for t in tasks.values()]), strict=True):
        for policy, number in zip(policies, apportion(count, shares), strict=True):
            cells += [(name, policy)] * number
    cells.sort(key=lambda cell: (policies.index(cell[1]), cell[0]))
    _, validation, test = apportion(len(cells), [split.train, split.validation, split.test])
    chosen: list[Split] = ["train"] * len(cells)
    parts: tuple[tuple[Split, int], ...] = (("test", test), ("validation", validation))
    for part, count in parts:
        # Even strides over the sorted list spread a split over all tasks and policies.
        free = [index for index, taken in enumerate(chosen) if taken == "train"]
        for k in range(count):
            chosen[free[int((k + rng.uniform(0.2, 0.8)) * len(free) / count)]] = part
    order = rng.permutation(len(cells))
    return [
        Assignment(
            number,
            cells[index][0],
            str(rng.choice(list(tasks[cells[index][0]].instructions))),
            cells[index][1],
            chosen[index],
        )
        for number, index in enumerate(order)
    ]


class Noise:
    """Smooth noise: an autoregressive process of a given standard deviation."""

    def __init__(self, rng: np.random.Generator, width: int, deviation: float, correlation: float) -> None:
        self._rng, self._deviation, self._correlation = rng, deviation, correlation
        self._value = rng.normal(0, deviation, width)

    def __call__(self) -> Vector:
        """The next value (A,)."""
        fresh = self._rng.normal(0, self._deviation, len(self._value))
        self._value = self._correlation * self._value + math.sqrt(1 - self._correlation**2) * fresh
        return self._value


class Actor:
    """Chooses the action of every control step by one of the policies."""

    def __init__(
        self, policy: Policy, simulator: Simulator, noise: NoiseSpec, width: int, rng: np.random.Generator
    ) -> None:
        self._policy, self._simulator, self._rng = policy, simulator, rng
        deviation = noise.wander if policy == "random" else float(rng.uniform(noise.low, noise.high))
        self._noise = Noise(rng, width, deviation, noise.correlation)
        self._left = 0
        self._centre: Vector = simulator.state()[_XYZ["object"]].astype(np.float64)
        self._target, self._opening = self._centre, 1.0
        if policy == "wrong_goal":
            simulator.set_wrong_goal(rng)

    def __call__(self) -> Vector:
        """The next action (A,), from -1 to 1."""
        match self._policy:
            case "expert" | "wrong_goal":
                return self._simulator.expert()
            case "noisy_expert":
                return np.clip(self._simulator.expert() + self._noise(), -1, 1)
            case "random":
                return np.clip(self._wander() + self._noise(), -1, 1)
            case "unknown":
                raise SourceError("a recorded robot's policy cannot act")

    def _wander(self) -> Vector:
        """Towards a random point around the object's first place, often close; a new one every .3 to .9 seconds."""
        if self._left == 0:
            self._left = max(1, int(self._rng.uniform(0.3, 0.9) * self._simulator.rate))
            near = self._rng.random() < 0.4
            self._target = self._centre + self._rng.uniform([-0.12, -0.12, 0.0], [0.12, 0.12, 0.14]) * (
                0.2 if near else 1.0
            )
            self._opening = float(self._rng.choice([-1.0, 1.0]))
        self._left -= 1
        return self._simulator.approach(self._target, self._opening)


def set_scene(spec: SimulatedRobotSpec, source: str, assignment: Assignment, simulator: Simulator) -> None:
    """Set up the initial scene of an episode.

    Raises SourceError if no scene can be found that is not solved from the start.
    """
    for attempt in range(ATTEMPTS):
        simulator.reset(int(np.random.default_rng([spec.seed, 2, assignment.number, attempt]).integers(2**31)))
        if simulator.state()[_SUCCESS] < 0.5:
            return
    raise SourceError(f"{source}/{assignment.task}: {ATTEMPTS} scenes in a row start solved; change the seed")


def control(simulator: Simulator, act: Callable[[], Vector], steps: int) -> tuple[list[Vector], Float32]:
    """Act for `steps` control steps: the actions taken, and the greatest contact, force and penetration (3,)."""
    taken, touch = [], np.zeros(3, np.float32)
    for _ in range(steps):
        taken.append(act())
        simulator.step(taken[-1])
        touch = np.maximum(touch, simulator.state()[_CONTACT])
    return taken, touch


def state_since(simulator: Simulator, touch: Float32) -> Float32:
    """The current state (14,), its contact, force and penetration no less than `touch` (3,), those since the last
    frame."""
    state = simulator.state()
    state[_CONTACT] = np.maximum(state[_CONTACT], touch)
    return state


def record(spec: SimulatedRobotSpec, source: str, assignment: Assignment, simulator: Simulator) -> Episode:
    """Record one episode. Its action t is the mean over the control steps from frame t to frame t + 1; contact, force
    and penetration of frame t are the greatest over the control steps since frame t - 1, as pushes touch and let go.

    Raises SourceError where no scene can be found that is not solved from the start.
    """
    number = assignment.number
    set_scene(spec, source, assignment, simulator)
    rng = np.random.default_rng([spec.seed, 3, number])
    actor = Actor(assignment.policy, simulator, spec.noise, spec.action_width, rng)
    frames, actions, states, keypoints = [], [], [], []
    touch = np.zeros(3, np.float32)
    for _ in range(spec.length):
        state = state_since(simulator, touch)
        frames.append(simulator.frame())
        states.append(state)
        keypoints.append(simulator.project(state[:9].reshape(3, 3).astype(np.float64)).reshape(-1))
        taken, touch = control(simulator, actor, spec.stride)
        actions.append(np.mean(taken, 0))
    scene = np.round(states[0][3:9].astype(np.float64), 4)
    return Episode(
        id=f"{source}/{number:06d}",
        source=source,
        task=assignment.task,
        instruction=assignment.instruction,
        policy=assignment.policy,
        scene=hashlib.blake2b(f"{assignment.task} {scene.tolist()}".encode(), digest_size=8).hexdigest(),
        split=assignment.split,
        frames=np.stack(frames),
        actions=np.asarray(actions, np.float32),
        state=np.stack(states),
        keypoints=np.stack(keypoints),
    )
