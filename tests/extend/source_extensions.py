"""A data source and a simulator, added."""

from extension import Extension

READER = Extension(
    file="roboalign/sources/readers/json_episodes.py",
    code='''
"""Folders of JSON files, one an episode: {"images": T x H x W x 3, "actions": T x A, "instruction": text}."""

import json
from collections.abc import Iterator, Sequence

import numpy as np

from roboalign.sources.errors import DamagedError
from roboalign.sources.readers.columns import Columns, as_image
from roboalign.sources.readers.file_episodes import FileEpisodes
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import RawEpisode
from roboalign.sources.readers.spec import JsonEpisodesSpec
from roboalign.types import UInt8


class JsonEpisodes(FileEpisodes):
    """The episodes of a folder."""

    def __init__(self, spec: JsonEpisodesSpec, files: Files) -> None:
        super().__init__(files, ["*.json"], spec.fps, self.read_file)
        self.spec, self.files = spec, files

    def read_file(self, path: str) -> RawEpisode:
        """The episode of a file. Raises DamagedError."""
        try:
            content = json.loads(self.files.bytes(path))
            images = np.asarray(content[self.spec.camera], np.uint8)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"it is not an episode: {error!r}") from None

        def decode(steps: Sequence[int]) -> Iterator[UInt8]:
            return (as_image(images[step], self.spec.camera) for step in steps)

        columns = Columns([key.key for key in self.spec.actions], content.__getitem__)
        return RawEpisode(path, len(images), decode, columns, str(content.get(self.spec.instruction_field, "")))
''',
    spec_file="roboalign/sources/readers/spec.py",
    union="RecordedSpec",
    spec='''
class JsonEpisodesSpec(DatasetSpec):
    """A folder of JSON files, one an episode."""

    kind: Literal["json"]
    camera: Key = "images"
    """The key of the images."""
    instruction: Instruction = "instruction"
    """The key of the instruction."""
    fps: Annotated[float, Field(gt=0, le=1000)]
    """Frames per second of the recording."""
''',
    builder_file="roboalign/sources/builder.py",
    imports="from roboalign.sources.readers.spec import JsonEpisodesSpec",
    branches={
        "build_format_reader": """
        case JsonEpisodesSpec():
            from roboalign.sources.readers.json_episodes import JsonEpisodes

            return JsonEpisodes(spec, files)
"""
    },
    specs={
        "specs/sources/lab.yaml": """
kind: json
uri: data/lab
fps: 10
actions: [{key: actions}]
action_width: 2
image: {height: 64, width: 64}
"""
    },
    edits=(
        ("params.yaml", "panda, jaco]\n", "lab]\n"),
        # Reward models perceive what no state probe knows by a backbone; the judge is the constant one.
        (
            "params.yaml",
            "set: {}",
            "set: {"
            + ", ".join(
                f"{part}.encoder.appearance: {{backbone: test_convnext, level: 2, frames: 4}}"
                for part in ("held_out", "student")
            )
            + "}",
        ),
    ),
    part="""
import json
import numpy as np
from roboalign.store import EpisodeStore

Path("data/lab").mkdir(parents=True)
for number in range(2):
    images = np.full((32, 16, 16, 3), 50 * number) + np.arange(32)[:, None, None, None]
    episode = {"images": images.tolist(), "actions": [[number, step] for step in range(32)], "instruction": "wait"}
    Path(f"data/lab/{number}.json").write_text(json.dumps(episode))
assert main(["convert", "specs/sources/lab.yaml", "converted", "--workers", "1"]) == 0
store = EpisodeStore(Path("converted"))
print(len(store), store.fps, *[(e.frames.shape, int(e.frames[3, 5, 5, 0]), e.actions[7].tolist(), e.instruction)
                    for e in map(store.read, range(2))])
""",
    printed="2 10.0 ((32, 64, 64, 3), 3, [0.0, 7.0], 'wait') ((32, 64, 64, 3), 53, [1.0, 7.0], 'wait')",
)

SIMULATOR = Extension(
    file="roboalign/sources/simulators/plane.py",
    code='''
"""A gripper that moves over a plane and takes along what it touches."""

import numpy as np

from roboalign.sources.simulators.simulator import Vector
from roboalign.sources.simulators.spec import PlaneSpec
from roboalign.types import Float32, UInt8

COLOURS = ((0, 0, 255), (255, 128, 0), (0, 255, 0))


class Plane:
    """The points gripper, object and goal, between -.5 and .5 m."""

    rate = 10.0

    def __init__(self, spec: PlaneSpec) -> None:
        self.size = spec.image_size

    def reset(self, seed: int) -> None:
        """Draw the three points."""
        points = np.random.default_rng(seed).uniform(-0.4, 0.4, (3, 2))
        self.points = np.concatenate([points, np.zeros((3, 1))], 1)
        self.aim = self.points[2]

    def set_wrong_goal(self, rng: np.random.Generator) -> None:
        """Aim at another point."""
        self.aim = -self.points[2]

    def expert(self) -> Vector:
        """To the object, then to the goal."""
        return self.approach(self.aim if self._touching() else self.points[1], -1.0)

    def approach(self, target: Vector, opening: float) -> Vector:
        """Towards a point."""
        return np.append(np.clip(10 * (target - self.points[0])[:2], -1, 1), opening)

    def step(self, action: Vector) -> None:
        """Move by up to .1 m."""
        touching = self._touching()
        self.points[0, :2] += 0.1 * np.clip(action[:2], -1, 1)
        if touching:
            self.points[1] = self.points[0]

    def frame(self) -> UInt8:
        """The points as squares."""
        image = np.full((*self.size, 3), 40, np.uint8)
        for (u, v), colour in zip(self.project(self.points) * self.size, COLOURS, strict=True):
            image[max(int(v) - 2, 0) : int(v) + 2, max(int(u) - 2, 0) : int(u) + 2] = colour
        return image

    def state(self) -> Float32:
        """The current state (14,)."""
        success = np.linalg.norm(self.points[1] - self.points[2]) < 0.05
        return np.array([*self.points.ravel(), 0, self._touching(), self._touching(), 0, success], np.float32)

    def project(self, points: Vector) -> Float32:
        """Image coordinates (N, 2)."""
        return (points[:, :2] + 0.5).astype(np.float32)

    def close(self) -> None:
        """There is nothing to free."""

    def _touching(self) -> bool:
        return bool(np.linalg.norm(self.points[0] - self.points[1]) < 0.05)
''',
    spec_file="roboalign/sources/simulators/spec.py",
    union="SimulatedRobotSpec",
    spec='''
class PlaneSpec(SimulatedSpec):
    """A gripper that moves over a plane."""

    kind: Literal["plane"]
    stride: Annotated[int, Field(ge=1, le=50)] = 1
    """Control steps (100 ms each) from a frame to the next."""
    tasks: Annotated[dict[Literal["carry"], TaskSpec], Field(min_length=1)]
    """The tasks to record."""

    @property
    def fps(self) -> float:
        """Frames per second of the recordings."""
        return 10 / self.stride

    @property
    def action_width(self) -> int:
        """Displacement (2) and finger motion."""
        return 3
''',
    builder_file="roboalign/sources/builder.py",
    imports="from roboalign.sources.simulators.spec import PlaneSpec",
    branches={
        "build_simulator": """
        case PlaneSpec():
            from roboalign.sources.simulators.plane import Plane

            return Plane(spec)
"""
    },
    specs={
        "specs/sources/plane.yaml": """
kind: plane
episodes: 3
policies: {expert: 1, noisy_expert: 0, wrong_goal: 0, random: 0}
tasks:
  carry:
    instructions: [carry the object to the goal]
    camera: {lookat: [0.0, 0.0, 0.0], distance: 1.0, azimuth: 0, elevation: -90}
"""
    },
    edits=(("params.yaml", "sources: [metaworld, ", "sources: [metaworld, plane, "),),
    part="""
from roboalign.store import EpisodeStore

assert main(["convert", "specs/sources/plane.yaml", "recorded", "--workers", "1"]) == 0
store = EpisodeStore(Path("recorded"))
print(len(store), store.fps, *[(e.frames.shape, e.actions.shape, e.success) for e in map(store.read, range(3))])
""",
    printed="3 10.0 " + " ".join(["((32, 64, 64, 3), (32, 3), True)"] * 3),
)
