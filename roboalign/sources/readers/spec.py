"""Data sets that were recorded elsewhere: where they lie, and what is taken from them."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.sources.readers.instruction_spec import Instruction, Key, Pattern, refuse_bad_pattern
from roboalign.sources.shared_spec import Quantile, SplitSpec
from roboalign.spec.base import FieldError, Fraction, Name, Seed, Spec, items
from roboalign.store.spec import StorageSpec, Tile, TileLayout, camera_features, divide_frame

Cameras = Key | Annotated[tuple[Key, ...], items(1, 9)]
"""The camera whose pictures are read, or a list of cameras, which one frame shows together by `tiling`."""

CELL = 16
"""Pixels of a side of a camera's cell at least."""


ActionLimits = Annotated[tuple[float, float], Field(strict=False)]
"""Least and largest value."""


class CropSpec(Spec):
    """The part of the recorded picture that is kept, as shares of its height and width."""

    top: Fraction = 0.0
    """Upper edge, from the top."""
    bottom: Fraction = 1.0
    """Lower edge, from the top."""
    left: Fraction = 0.0
    """Left edge, from the left."""
    right: Fraction = 1.0
    """Right edge, from the left."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.top >= self.bottom:
            raise FieldError("top", f"top is {self.top:g}, not above bottom, which is {self.bottom:g}; lower it")
        if self.left >= self.right:
            raise FieldError("left", f"left is {self.left:g}, not left of right, which is {self.right:g}; lower it")
        return self


class PictureSpec(Spec):
    """How recorded pictures become frames: `crop`, then `fit`, then area-averaging (bicubic to enlarge)."""

    height: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = 256
    """Pixels (paper)."""
    width: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = 320
    """Pixels (paper)."""
    crop: CropSpec = CropSpec()
    """The part that is kept."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """If the aspect ratios differ: cut off the longer sides evenly, add black borders, or distort (our choice)."""


class TilingSpec(Spec):
    """How the pictures of several cameras become one frame of the size that `image` declares, and how they are stored.

    Each camera fills a cell, in the order of the list; crop and fit apply to each camera and its cell.
    """

    layout: TileLayout = "row"
    """`row`: side by side; `column`: one below the other; `grid`: as many rows as columns, or one fewer."""
    separate: bool = False
    """Whether the store keeps each camera as a feature of its own, `observation.images.<camera>`, instead of the whole
    frame as `observation.images.main`. Models see the whole frame in either case."""


class VectorKeySpec(Spec):
    """One of the columns that make up a vector, such as the proprioception."""

    key: Key
    """The column."""
    columns: Annotated[tuple[Annotated[int, Field(ge=0, le=4095)], ...], items(0, 256)] = ()
    """Which of its entries are taken, in this order; none named takes all."""


class ActionKeySpec(VectorKeySpec):
    """One of the columns that make up the action."""

    skipped: Literal["sum", "mean", "last"] = "sum"
    """What becomes of the actions between two frames of a `stride`: displacements add up, velocities are averaged, and
    of absolute commands (a gripper's opening, a joint target) the last one counts."""


class FilterSpec(Spec):
    """Which episodes are taken. What is left out is counted, by reason."""

    instruction: Pattern | None = None
    """Only episodes in whose instruction this pattern is found (case does not matter)."""
    without: Pattern | None = None
    """No episode in whose instruction this pattern is found."""
    attributes: dict[Key, Pattern] = Field(default_factory=dict)
    """Only episodes in whose named attributes these patterns are found; `inspect` lists a source's attributes."""
    longest: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """No episode of more frames than this, after `stride`; 0 takes all."""

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        patterns = {"instruction": self.instruction, "without": self.without}
        patterns |= {f"attributes.{key}": value for key, value in self.attributes.items()}
        for field, pattern in patterns.items():
            refuse_bad_pattern(field, pattern)
        return self


class GroupSplitSpec(SplitSpec):
    """Shares of the episodes; what belongs together goes into one split."""

    by: Literal["scene", "instruction"] = "scene"
    """What belongs together: episodes of one initial scene, or of one instruction (then test tasks are new ones)."""
    scene: Key | None = None
    """The attribute that names the initial scene; null takes the first picture, so that only repeated recordings of
    the very same picture count as one scene."""
    scene_pattern: Pattern | None = None
    """The part of that attribute that counts: its first group, such as the folder in a path."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        refuse_bad_pattern("scene_pattern", self.scene_pattern)
        if self.scene_pattern is not None and self.scene is None:
            raise FieldError("scene_pattern", "scene_pattern needs the attribute to look in; set scene too")
        if self.scene_pattern is not None and re.compile(self.scene_pattern).groups < 1:
            raise FieldError("scene_pattern", "scene_pattern has no group; put ( ) around the part that counts")
        return self


class DatasetSpec(Spec):
    """What all data sets recorded elsewhere share."""

    uri: Annotated[str, Field(min_length=1, max_length=1000)]
    """Where the data set lies: a path, or a URI that fsspec opens (s3://, gs://, hf://, https:// and others)."""
    options: dict[Name, bool | int | str] = Field(default_factory=dict)
    """fsspec's options for that place, such as {anon: true}. Credentials belong into the environment, not here."""
    revision: Annotated[str, Field(max_length=200)] = ""
    """A free text. Changing it reads the data set again: the stage cannot see that files behind a URI changed."""
    camera: Cameras
    """The images to read: one camera, or a list of cameras that are shown together."""
    tiling: TilingSpec = TilingSpec()
    """How several cameras share a frame."""
    instruction_changes: Literal["first", "split"] = "first"
    """What becomes of an episode in which the instruction (or the task index) changes. `first`: the first instruction
    is taken for all of it, and a warning counts such episodes. `split`: each stretch of one instruction is an episode
    of its own, `<episode>#1`, `<episode>#2` and so on; stretches shorter than `length` are left out and counted."""
    instruction: Instruction
    """The instruction: the field with its text, a literal `{text: …}`, or a `{field: …, pattern: …}`."""
    actions: Annotated[tuple[ActionKeySpec, ...], items()]
    """The columns that make up the action, joined in this order."""
    action_width: Annotated[int, Field(ge=1, le=256)]
    """Action dimensions after joining; an episode of another width is quarantined."""
    action_quantile: Quantile = 0.01
    """Actions are scaled to the range between this quantile of the training episodes and its mirror: robust against
    outliers, unlike the least and the largest value (our choice)."""
    action_range: Annotated[tuple[ActionLimits, ...], items(0, 256)] = ()
    """Least and largest value of each action dimension, which actions are scaled by instead of `action_quantile`; none
    named takes that. A published world model needs the limits that its training data had."""
    proprioception: Annotated[tuple[VectorKeySpec, ...], items(0, 64)] = ()
    """The columns that make up the proprioception (what the robot measures of itself, such as joint angles), joined in
    this order; none named reads none. `world_model.proprioception` gives it to the world model."""
    proprioception_width: Annotated[int, Field(ge=0, le=256)] = 0
    """Dimensions of the proprioception after joining; an episode of another width is quarantined."""
    image: PictureSpec = PictureSpec()
    """Crop, size and aspect ratio of the frames."""
    storage: StorageSpec = StorageSpec()
    """How the frames are kept."""
    stride: Annotated[int, Field(ge=1, le=1000)] = 1
    """Recorded frames from one frame to the next."""
    length: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Frames an episode needs to have at least, after `stride`; shorter ones are left out."""
    episodes: Annotated[int, Field(ge=0)] = 0
    """Episodes to take, from the start; 0 takes all."""
    filter: FilterSpec = FilterSpec()
    """Which episodes are taken."""
    tolerance: Fraction = 0.01
    """Share of the episodes that may be damaged; the stage fails when more are."""
    split: GroupSplitSpec = GroupSplitSpec()
    """How the episodes are split."""
    seed: Seed = 0
    """Seed of the split."""

    @model_validator(mode="after")
    def _proprioception_fits(self) -> Self:
        if bool(self.proprioception) != bool(self.proprioception_width):
            raise FieldError(
                "proprioception_width",
                f"proprioception_width is {self.proprioception_width}, and proprioception lists "
                f"{len(self.proprioception)} columns; set both or neither",
            )
        return self

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.action_range and len(self.action_range) != self.action_width:
            raise FieldError(
                "action_range",
                f"has limits of {len(self.action_range)} dimensions, action_width is {self.action_width}; give as many",
            )
        for index, (low, high) in enumerate(self.action_range):
            if low >= high:
                raise FieldError(f"action_range.{index}", f"{low:g} is not below {high:g}; give least and largest")
        return self

    @property
    def vectors(self) -> tuple[tuple[str, Sequence[VectorKeySpec], int], ...]:
        """The vectors that are read: the field, its columns, and the declared width."""
        return (
            ("actions", self.actions, self.action_width),
            ("proprioception", self.proprioception, self.proprioception_width),
        )

    @property
    def vector_keys(self) -> tuple[str, ...]:
        """The columns that actions and proprioception are made of, each once."""
        return tuple(dict.fromkeys(entry.key for entry in (*self.actions, *self.proprioception)))

    @property
    def instruction_field(self) -> str:
        """The field that a reader takes the instruction from; empty if it is a literal text."""
        return self.instruction if isinstance(self.instruction, str) else self.instruction.field or ""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.height, self.image.width

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that a frame shows."""
        return (self.camera,) if isinstance(self.camera, str) else self.camera

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The cell of each camera in the frame."""
        return divide_frame(len(self.cameras), self.tiling.layout, *self.image_size)

    @property
    def stored_cameras(self) -> dict[str, Tile] | None:
        """The cell of each image feature of the store if cameras are kept by themselves, else None."""
        return dict(zip(camera_features(self.cameras), self.tiles, strict=True)) if self.tiling.separate else None

    @model_validator(mode="after")
    def _cameras_fit(self) -> Self:
        cameras = self.cameras
        if twice := [key for number, key in enumerate(cameras) if key in cameras[:number]]:
            raise FieldError("camera", f"camera lists '{twice[0]}' twice; name each camera once")
        if len(set(camera_features(cameras))) < len(cameras):
            raise FieldError("camera", f"two of the cameras {', '.join(cameras)} would be stored under one name")
        if self.tiling.separate and len(cameras) == 1:
            raise FieldError("tiling.separate", "tiling.separate needs several cameras; list them in camera")
        if min(min(tile.height, tile.width) for tile in self.tiles) < CELL:
            side = "height" if min(tile.height for tile in self.tiles) < CELL else "width"
            message = (
                f"image.{side} {getattr(self.image, side)} leaves fewer than {CELL} pixels to each of {len(cameras)} "
                "cameras; raise it, list fewer cameras, or change tiling.layout"
            )
            raise FieldError(f"image.{side}", message)
        return self


class RldsSpec(DatasetSpec):
    """TFRecord shards as TensorFlow Datasets writes them, in RLDS: RT-1, BridgeData V2, Open X-Embodiment.

    `uri` is the folder that holds `features.json` and the shards, or the one above it if it has one version. Keys
    are those of a step (`observation/image`, `action/world_vector`); attributes are those of an episode
    (`episode_metadata/file_path`), numbers as text, and `true` or `false`.
    """

    kind: Literal["rlds"]
    subset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_*]+$", max_length=64)] = "train"
    """Which of the data set's own splits is read; `*` reads all."""
    fps: Annotated[float, Field(gt=0, le=1000)]
    """Frames per second of the recording, which RLDS does not tell."""


class LerobotSpec(DatasetSpec):
    """A LeRobotDataset of version 2.1 or 3, with images or videos.

    `uri` is the folder that holds `meta/`. Keys are its features (`observation.images.top`, `action`); attributes are
    the columns of its episode tables.
    """

    kind: Literal["lerobot"]
    instruction: Instruction = "task"
    """The instruction: `task`, by the data set's task table, or a text column; or a literal text, or a pattern."""


class CalvinSpec(DatasetSpec):
    """CALVIN in its own layout: one `.npz` a step, language annotations for stretches of steps.

    `uri` is the folder that holds `training/` and `validation/`. Keys are arrays of a step (`rgb_static`,
    `rel_actions`); attributes are `task`, `environment`, `subset`, and `recording`, which stretches share that overlap
    or follow each other within a second.
    """

    kind: Literal["calvin"]
    instruction: Instruction = "ann"
    """The list of instructions among the language annotations; or a literal text, or a pattern."""
    subset: Literal["training", "validation"] = "training"
    """Which of its folders is read. The annotations of `validation` in task_ABC_D and task_ABCD_D repeat themselves."""
    annotations: Annotated[str, Field(min_length=1, max_length=200)] = "lang_annotations/auto_lang_ann.npy"
    """The language annotations, inside that folder."""
    environments: Annotated[tuple[Literal["A", "B", "C", "D"], ...], items(0, 4)] = ()
    """Which of its environments are read, by `scene_info.npy`; none named reads all."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 30.0
    """Frames per second of the recording (CALVIN's 30 Hz)."""
    split: GroupSplitSpec = GroupSplitSpec(scene="recording")
    """How the episodes are split. Stretches that show the same pictures stay together."""


class LiberoSpec(DatasetSpec):
    """LIBERO and others in robomimic's layout: HDF5 files, one a task, with demonstrations `data/demo_*`.

    `uri` is a folder with `.hdf5` files at any depth. Keys are data sets of a demonstration (`obs/agentview_rgb`,
    `actions`); attributes are `file`, `folder`, and the attributes of the file's `data` group.
    """

    kind: Literal["libero"]
    instruction: Instruction = "problem_info/language_instruction"
    """The attribute with the instruction, parts inside JSON joined by `/`; or a literal text, or a pattern."""
    upside_down: bool = True
    """Whether its pictures are stored upside down, as robosuite renders them."""
    after_action: bool = True
    """Whether a step's picture was taken after its action, as LIBERO records them: then the next step's action leads on
    from it, and the last picture is left out. False for robomimic's own data sets."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """Frames per second of the recording (LIBERO's 20 Hz)."""


class VideosSpec(DatasetSpec):
    """A folder of videos and a JSON Lines file with one line a video.

    `uri` is the folder. A line holds the video's path under `camera`, the instruction, and the actions: lists of one
    row a frame, or the path of an `.npy` or `.npz` file. Everything else in a line is an attribute.
    """

    kind: Literal["videos"]
    manifest: Annotated[str, Field(min_length=1, max_length=200)] = "episodes.jsonl"
    """The JSON Lines file, inside the folder."""
    camera: Cameras = "video"
    """The key of the video's path; of several, a list."""
    instruction: Instruction = "instruction"
    """The key of the instruction; or a literal text, or a pattern."""
    fps: Annotated[float, Field(gt=0, le=1000)]
    """Frames per second; a video of another rate is quarantined."""


class NpzEpisodesSpec(DatasetSpec):
    """A folder of `.npz` files, one an episode, as iVideoGPT and RLVR-World convert data sets.

    `uri` is a folder with `.npz` files at any depth. Keys are arrays of a file: pictures (T, H, W, 3), actions (T, A);
    attributes are `file`, `folder`, and the file's single numbers and texts.
    """

    kind: Literal["npz"]
    camera: Cameras = "image"
    """The array of pictures."""
    instruction: Instruction = "instruction"
    """The array with the instruction: one text, or one a step, of which the first counts; or a literal text, or a
    pattern."""
    fps: Annotated[float, Field(gt=0, le=1000)]
    """Frames per second of the recording, which the files do not tell."""


class AlohaSpec(DatasetSpec):
    """ALOHA's HDF5 files, one an episode: `action`, `observations/qpos`, `observations/images/<camera>`.

    `uri` is a folder with `.hdf5` files at any depth. Keys are data sets of a file; attributes are `file`, `folder`,
    the file's attributes, and its single texts. ALOHA records no instruction: state a literal text, or a pattern.
    """

    kind: Literal["aloha"]
    camera: Cameras = "observations/images/cam_high"
    """The pictures: (T, H, W, 3), or JPEGs (T, bytes), padded with zeros."""
    swap_channels: bool = False
    """Whether its pictures have blue first, as OpenCV writes them."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 50.0
    """Frames per second of the recording (ALOHA's 50 Hz)."""


class CtrlWorldSpec(DatasetSpec):
    """Videos with one JSON annotation an episode, as Ctrl-World converts DROID.

    `uri` is the folder that holds `annotation/` and `videos/`. `camera` is the name of a video without its ending (`0`,
    `1`, `2`). Keys are lists of an annotation (`states`, `action.cartesian_position`); all else in it is an attribute.
    """

    kind: Literal["ctrl_world"]
    annotations: Annotated[str, Field(min_length=1, max_length=200)] = "annotation/train"
    """The folder of annotations, inside `uri`."""
    camera: Cameras = "0"
    """The video's name without its ending."""
    instruction: Instruction = "texts"
    """The key of the instruction, the first of a list; or a literal text, or a pattern."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 5.0
    """Frames per second of the videos (Ctrl-World's 5 Hz)."""
    rows_per_frame: Annotated[int, Field(ge=1, le=100)] = 1
    """Rows of the action columns for each frame of the videos. Ctrl-World's `states` have one; all other columns have
    DROID's 15 Hz, three a frame. `stride` counts rows and must be a multiple of this."""

    @model_validator(mode="after")
    def _frames_are_there(self) -> Self:
        if self.stride % self.rows_per_frame:
            message = f"stride {self.stride} is not a multiple of rows_per_frame {self.rows_per_frame}; raise it to one"
            raise FieldError("stride", message)
        return self


RecordedSpec = (
    RldsSpec | LerobotSpec | CalvinSpec | LiberoSpec | VideosSpec | NpzEpisodesSpec | AlohaSpec | CtrlWorldSpec
)
"""The data sets recorded elsewhere."""
