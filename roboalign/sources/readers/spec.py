"""Specs of recorded data sets, one class per format."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from roboalign.sources.readers.instruction_spec import Instruction, Key, Pattern, refuse_bad_pattern
from roboalign.sources.shared_spec import Quantile, SplitSpec
from roboalign.spec.base import FieldError, Fraction, Name, Seed, Spec, items
from roboalign.store.spec import StorageSpec, Tile, TileLayout, camera_features, divide_frame

Cameras = Key | Annotated[tuple[Key, ...], items(1, 9)]
"""The camera to read, or a list of cameras that `tiling` combines into one frame."""

CELL = 16
"""Smallest side of a camera's cell in pixels."""


ActionLimits = Annotated[tuple[float, float], Field(strict=False)]
"""(minimum, maximum) of an action dimension."""


class CropSpec(Spec):
    """Region of the recorded image to keep, as fractions of its height and width."""

    top: Fraction = 0.0
    """Upper edge, measured from the top."""
    bottom: Fraction = 1.0
    """Lower edge, measured from the top."""
    left: Fraction = 0.0
    """Left edge, measured from the left."""
    right: Fraction = 1.0
    """Right edge, measured from the left."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.top >= self.bottom:
            raise FieldError("top", f"top ({self.top:g}) must be less than bottom ({self.bottom:g}); lower it")
        if self.left >= self.right:
            raise FieldError("left", f"left ({self.left:g}) must be less than right ({self.right:g}); lower it")
        return self


class ImageTransformSpec(Spec):
    """Conversion of recorded images to frames: `crop`, then `fit`, then resampling by area averaging (bicubic if
    enlarged)."""

    height: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = 256
    """Height of the frames in pixels (paper: 256)."""
    width: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = 320
    """Width of the frames in pixels (paper: 320)."""
    crop: CropSpec = CropSpec()
    """Region of the recorded image to keep."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """Treatment of other aspect ratios: `crop` cuts the longer sides evenly, `pad` adds black borders, `stretch`
    distorts (our choice)."""


class TilingSpec(Spec):
    """Layout of several cameras in one frame of the size that `image` declares, and their storage.

    Each camera fills a cell, in the order of the list; crop and fit apply to each camera and its cell.
    """

    layout: TileLayout = "row"
    """`row`: side by side; `column`: one below the other; `grid`: as many rows as columns, or one less."""
    separate: bool = False
    """Whether the store keeps each camera as a feature of its own, `observation.images.<camera>`, instead of the whole
    frame as `observation.images.main`. Models see the whole frame in either case."""


class VectorKeySpec(Spec):
    """A column that is part of a vector, such as the proprioception."""

    key: Key
    """Name of the column."""
    columns: Annotated[tuple[Annotated[int, Field(ge=0, le=4095)], ...], items(0, 256)] = ()
    """Indices of the column's dimensions to use, in this order; empty for all."""


class ActionKeySpec(VectorKeySpec):
    """A column that is part of the action."""

    skipped: Literal["sum", "mean", "last"] = "sum"
    """Combination of the actions between two frames of a `stride`: `sum` for displacements, `mean` for velocities,
    `last` for absolute commands (a gripper's opening, a joint target)."""


class FilterSpec(Spec):
    """Filter of episodes. Left-out episodes are counted by the field that excludes them."""

    instruction: Pattern | None = None
    """Keeps only episodes whose instruction matches this pattern (case-insensitive search)."""
    without: Pattern | None = None
    """Leaves out episodes whose instruction matches this pattern (case-insensitive search)."""
    attributes: dict[Key, Pattern] = Field(default_factory=dict)
    """Keeps only episodes whose attributes match these patterns; `inspect` lists the attributes of a source."""
    longest: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Leaves out episodes with more frames than this, after `stride`; 0 for no limit."""

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        patterns = {"instruction": self.instruction, "without": self.without}
        patterns |= {f"attributes.{key}": value for key, value in self.attributes.items()}
        for field, pattern in patterns.items():
            refuse_bad_pattern(field, pattern)
        return self


class GroupSplitSpec(SplitSpec):
    """Fractions of the episodes in each split; groups of episodes are not divided between splits."""

    by: Literal["scene", "instruction"] = "scene"
    """Grouping: episodes with the same initial scene, or with the same instruction (then the test tasks are new)."""
    scene: Key | None = None
    """Attribute that names the initial scene. If null, the first image identifies it, so that only recordings with
    identical first images share a scene."""
    scene_pattern: Pattern | None = None
    """Pattern whose first group extracts the scene from the attribute, such as the folder in a path."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        refuse_bad_pattern("scene_pattern", self.scene_pattern)
        if self.scene_pattern is not None and self.scene is None:
            raise FieldError("scene_pattern", "scene_pattern needs an attribute; set scene too")
        if self.scene_pattern is not None and re.compile(self.scene_pattern).groups < 1:
            raise FieldError("scene_pattern", "scene_pattern has no group; put ( ) around the part to extract")
        return self


class DatasetSpec(Spec):
    """Fields of all recorded data sets."""

    uri: Annotated[str, Field(min_length=1, max_length=1000)]
    """URI of the data set: a path, or a URI that fsspec opens (s3://, gs://, hf://, https:// and others)."""
    options: dict[Name, bool | int | str] = Field(default_factory=dict)
    """Options of fsspec for the URI, such as {anon: true}. Set credentials in the environment, not here."""
    revision: Annotated[str, Field(max_length=200)] = ""
    """Free text. Changing it reads the data set again, because the stage cannot detect changes of files behind a
    URI."""
    camera: Cameras
    """The camera to read, or a list of cameras to show together."""
    tiling: TilingSpec = TilingSpec()
    """Layout of several cameras in a frame."""
    instruction_changes: Literal["first", "split"] = "first"
    """Treatment of episodes whose instruction (or task index) changes. `first`: the first instruction is used for the
    whole episode, and a warning counts such episodes. `split`: each segment with one instruction becomes an episode,
    `<episode>#1`, `<episode>#2` and so on; segments shorter than `length` are left out and counted."""
    instruction: Instruction
    """The instruction: the name of the field, a literal `{text: …}`, or a `{field: …, pattern: …}`."""
    actions: Annotated[tuple[ActionKeySpec, ...], items()]
    """Columns that are concatenated to the action, in this order."""
    action_width: Annotated[int, Field(ge=1, le=256)]
    """Number of action dimensions after concatenation; episodes with another width are quarantined."""
    action_quantile: Quantile = 0.01
    """Actions are normalised by this quantile of the training episodes and its mirror, which are robust against
    outliers (our choice)."""
    action_range: Annotated[tuple[ActionLimits, ...], items(0, 256)] = ()
    """Minimum and maximum of each action dimension, which replace `action_quantile` for normalisation if given. A
    published world model needs the limits of its training data."""
    proprioception: Annotated[tuple[VectorKeySpec, ...], items(0, 64)] = ()
    """Columns of the proprioception (the robot's measurements of itself, such as joint angles), joined in this order;
    empty to read none. `world_model.proprioception` gives it to the world model."""
    proprioception_width: Annotated[int, Field(ge=0, le=256)] = 0
    """Number of dimensions of the proprioception; an episode of another width is quarantined."""
    image: ImageTransformSpec = ImageTransformSpec()
    """Crop, size and aspect ratio of the frames."""
    storage: StorageSpec = StorageSpec()
    """Storage of the frames."""
    stride: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of recorded frames from one frame to the next."""
    length: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Smallest number of frames of an episode, after `stride`; shorter ones are left out."""
    episodes: Annotated[int, Field(ge=0)] = 0
    """Largest number of episodes, from the start; 0 for all."""
    filter: FilterSpec = FilterSpec()
    """Filter of episodes."""
    tolerance: Fraction = 0.01
    """Largest fraction of damaged episodes; the stage fails if there are more."""
    split: GroupSplitSpec = GroupSplitSpec()
    """Split of the episodes."""
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
                f"action_range has {len(self.action_range)} pairs, but action_width is {self.action_width}; "
                "give one pair per dimension",
            )
        for index, (low, high) in enumerate(self.action_range):
            if low >= high:
                raise FieldError(
                    f"action_range.{index}",
                    f"the minimum {low:g} is not below the maximum {high:g}; give (minimum, maximum)",
                )
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
        """Field that a reader takes the instruction from; empty for a literal text."""
        return self.instruction if isinstance(self.instruction, str) else self.instruction.field or ""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.image.height, self.image.width

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras in a frame."""
        return (self.camera,) if isinstance(self.camera, str) else self.camera

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Cell of each camera in the frame."""
        return divide_frame(len(self.cameras), self.tiling.layout, *self.image_size)

    @property
    def stored_cameras(self) -> dict[str, Tile] | None:
        """Cell of each image feature of the store, if cameras are stored separately, else None."""
        return dict(zip(camera_features(self.cameras), self.tiles, strict=True)) if self.tiling.separate else None

    @model_validator(mode="after")
    def _cameras_fit(self) -> Self:
        cameras = self.cameras
        if duplicates := [key for number, key in enumerate(cameras) if key in cameras[:number]]:
            raise FieldError("camera", f"camera lists '{duplicates[0]}' twice; name each camera once")
        if len(set(camera_features(cameras))) < len(cameras):
            raise FieldError(
                "camera", f"two of the cameras {', '.join(cameras)} would be stored under the same name; rename one"
            )
        if self.tiling.separate and len(cameras) == 1:
            raise FieldError("tiling.separate", "tiling.separate needs several cameras; list them in camera")
        if min(min(tile.height, tile.width) for tile in self.tiles) < CELL:
            side = "height" if min(tile.height for tile in self.tiles) < CELL else "width"
            message = (
                f"image.{side} {getattr(self.image, side)} leaves less than {CELL} pixels for each of {len(cameras)} "
                "cameras; raise it, list fewer cameras, or change tiling.layout"
            )
            raise FieldError(f"image.{side}", message)
        return self


class RldsSpec(DatasetSpec):
    """TFRecord shards of TensorFlow Datasets in the RLDS format: RT-1, BridgeData V2, Open X-Embodiment.

    `uri` is the folder that contains `features.json` and the shards, or its parent if there is only one version. Keys
    are features of a step (`observation/image`, `action/world_vector`). Attributes are features of an episode
    (`episode_metadata/file_path`); numbers are formatted as text, booleans as `true` or `false`.
    """

    kind: Literal["rlds"]
    subset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_*]+$", max_length=64)] = "train"
    """Split of the data set to read; `*` reads all."""
    fps: Annotated[float, Field(gt=0, le=1000)]
    """Frames per second of the recording, which RLDS does not contain."""


class LerobotSpec(DatasetSpec):
    """A LeRobotDataset of version 2.0, 2.1 or 3.0, with images or videos.

    `uri` is the folder that contains `meta/`. Keys are features (`observation.images.top`, `action`); attributes are
    the columns of the episode tables.
    """

    kind: Literal["lerobot"]
    instruction: Instruction = "task"
    """The instruction: `task` for the task table, a text column, a literal text, or a pattern."""


class CalvinSpec(DatasetSpec):
    """CALVIN in its original layout: one `.npz` file per step, and language annotations of segments of steps.

    `uri` is the folder that contains `training/` and `validation/`. Keys are arrays of a step (`rgb_static`,
    `rel_actions`); attributes are `task`, `environment`, `subset`, and `recording`, which is shared by segments that
    overlap or follow each other within a second.
    """

    kind: Literal["calvin"]
    instruction: Instruction = "ann"
    """The list of instructions in the language annotations, a literal text, or a pattern."""
    subset: Literal["training", "validation"] = "training"
    """Folder to read. The annotations of `validation` in task_ABC_D and task_ABCD_D contain duplicates."""
    annotations: Annotated[str, Field(min_length=1, max_length=200)] = "lang_annotations/auto_lang_ann.npy"
    """File of the language annotations, inside that folder."""
    environments: Annotated[tuple[Literal["A", "B", "C", "D"], ...], items(0, 4)] = ()
    """Environments to read, from `scene_info.npy`; empty for all."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 30.0
    """Frames per second of the recording (CALVIN's 30 Hz)."""
    split: GroupSplitSpec = GroupSplitSpec(scene="recording")
    """Split of the episodes. Segments that show the same images are not divided between splits."""


class LiberoSpec(DatasetSpec):
    """HDF5 files in the layout of LIBERO and robomimic, one per task, with demonstrations `data/demo_*`.

    `uri` is a folder with `.hdf5` files at any depth. Keys are data sets of a demonstration (`obs/agentview_rgb`,
    `actions`); attributes are `file`, `folder`, and the attributes of the file's `data` group.
    """

    kind: Literal["libero"]
    instruction: Instruction = "problem_info/language_instruction"
    """The attribute that contains the instruction (a path with `/` into JSON values), a literal text, or a pattern."""
    upside_down: bool = True
    """Whether images are stored upside down, as robosuite renders them."""
    after_action: bool = True
    """Whether a step's image was taken after its action, as in LIBERO: it is then paired with the next step's action,
    and the last image is left out. False for robomimic's own data sets."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """Frames per second of the recording (LIBERO's 20 Hz)."""


class VideosSpec(DatasetSpec):
    """A folder of videos and a JSON Lines file with one line per video.

    `uri` is the folder. A line contains the video's path under `camera`, the instruction, and the actions: lists with
    one row per frame, or the path of an `.npy` or `.npz` file. All other values of a line are attributes.
    """

    kind: Literal["videos"]
    manifest: Annotated[str, Field(min_length=1, max_length=200)] = "episodes.jsonl"
    """The JSON Lines file, inside the folder."""
    camera: Cameras = "video"
    """Key of the video's path, or a list of keys for several cameras."""
    instruction: Instruction = "instruction"
    """Key of the instruction, a literal text, or a pattern."""
    fps: Annotated[float, Field(gt=0, le=1000)]
    """Frames per second; videos with another rate are quarantined."""


class NpzEpisodesSpec(DatasetSpec):
    """A folder of `.npz` files with one episode each, as iVideoGPT and RLVR-World convert data sets.

    `uri` is a folder with `.npz` files at any depth. Keys are arrays of a file: images (T, H, W, 3), actions (T, A);
    attributes are `file`, `folder`, and the single numbers and texts of the file.
    """

    kind: Literal["npz"]
    camera: Cameras = "image"
    """Key of the images."""
    instruction: Instruction = "instruction"
    """Key of the instruction (one text, or one per step, of which the first is used), a literal text, or a pattern."""
    fps: Annotated[float, Field(gt=0, le=1000)]
    """Frames per second of the recording, which the files do not contain."""


class AlohaSpec(DatasetSpec):
    """ALOHA's HDF5 files with one episode each: `action`, `observations/qpos`, `observations/images/<camera>`.

    `uri` is a folder with `.hdf5` files at any depth. Keys are data sets of a file; attributes are `file`, `folder`,
    the file's attributes, and its single texts. ALOHA records no instruction, so `instruction` must be a literal text
    or a pattern.
    """

    kind: Literal["aloha"]
    camera: Cameras = "observations/images/cam_high"
    """Key of the images: arrays (T, H, W, 3), or JPEGs (T, bytes) padded with zeros."""
    swap_channels: bool = False
    """Whether the images have the channel order BGR, as written by OpenCV."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 50.0
    """Frames per second of the recording (ALOHA's 50 Hz)."""


class CtrlWorldSpec(DatasetSpec):
    """Videos with one JSON annotation per episode, as Ctrl-World converts DROID.

    `uri` is the folder that contains `annotation/` and `videos/`. `camera` is the file name of a video without suffix
    (`0`, `1`, `2`). Keys are lists of an annotation (`states`, `action.cartesian_position`); all other values are
    attributes.
    """

    kind: Literal["ctrl_world"]
    annotations: Annotated[str, Field(min_length=1, max_length=200)] = "annotation/train"
    """Folder of the annotations, inside `uri`."""
    camera: Cameras = "0"
    """File name of the video without suffix."""
    instruction: Instruction = "texts"
    """Key of the instruction (the first text of a list), a literal text, or a pattern."""
    fps: Annotated[float, Field(gt=0, le=1000)] = 5.0
    """Frames per second of the videos (Ctrl-World's 5 Hz)."""
    rows_per_frame: Annotated[int, Field(ge=1, le=100)] = 1
    """Rows of the action columns for each video frame. Ctrl-World's `states` have one; the other columns have DROID's
    15 Hz, three per frame. `stride` counts rows and must be a multiple of this."""

    @model_validator(mode="after")
    def _frames_are_there(self) -> Self:
        if self.stride % self.rows_per_frame:
            message = f"stride ({self.stride}) must be a multiple of rows_per_frame ({self.rows_per_frame}); change it"
            raise FieldError("stride", message)
        return self


RecordedSpec = (
    RldsSpec | LerobotSpec | CalvinSpec | LiberoSpec | VideosSpec | NpzEpisodesSpec | AlohaSpec | CtrlWorldSpec
)
"""Union of the specs of recorded data sets."""
