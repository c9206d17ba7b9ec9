"""Reads RLDS data sets in the format of TensorFlow Datasets, without TensorFlow."""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import MISSING, Columns
from roboalign.sources.readers.example import features
from roboalign.sources.readers.files import Files, inside
from roboalign.sources.readers.reader import Damaged, Part, RawEpisode, change_warnings
from roboalign.sources.readers.rlds_features import Features, Leaf, parse
from roboalign.sources.readers.rlds_values import attribute, decode_images, rows, stored_images, texts
from roboalign.sources.readers.spec import RldsSpec
from roboalign.sources.readers.text import parse_json
from roboalign.sources.readers.tfrecord import Fault, records
from roboalign.types import Json

FEATURES, INFO = "features.json", "dataset_info.json"
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
"""File name template of shards if `dataset_info.json` has none."""


@dataclass(frozen=True, slots=True)
class TFRecordShard:
    """A TFRecord file of the data set."""

    path: str
    label: str
    """Short name of the file in messages and episode names."""
    episodes: int
    """Number of episodes in the file, from `dataset_info.json`."""


class Rlds:
    """Reads an RLDS data set with one record per episode. A part is a shard, which is read record by record."""

    def __init__(self, spec: RldsSpec, files: Files) -> None:
        self._spec, self._files = spec, files
        folder = _folder(files)
        self._features = parse(_json(files, folder + FEATURES), f"{files.uri}: {folder}{FEATURES}")
        self._camera, self._instruction = choose_leaves(spec, self._features)
        self._numeric = {key: leaf for key, leaf in self._features.steps.items() if leaf.vector}
        self._shards = {shard.path: shard for shard in shards(spec, files, folder)}

    @property
    def fps(self) -> float:
        """Recorded frames per second, from the spec."""
        return self._spec.fps

    def parts(self) -> list[Part]:
        """Return the parts: the shards of the chosen splits."""
        return [Part(path) for path in self._shards]

    def read(self, part: Part) -> Iterator[RawEpisode | Damaged]:
        """Yield the episodes of a shard; an unreadable rest is yielded as one `Damaged` with the number of lost
        episodes."""
        shard = self._shards[part.path]
        try:
            file = self._files.open(shard.path)
        except MISSING:
            reason = f"the file {shard.path} is missing; {shard.episodes} episodes are lost"
            yield Damaged(shard.label, reason, max(1, shard.episodes))
            return
        except OSError as error:
            raise SourceError(f"{self._files.uri}: {shard.path} cannot be opened: {error}") from None
        count = 0
        try:
            with file:
                for record in records(file):
                    yield self._episode(shard, count, record)
                    if isinstance(record, Fault) and record.rest:
                        return
                    count += 1
        except OSError as error:
            raise SourceError(f"{self._files.uri}: {shard.path} cannot be fetched: {error}; run it again") from None
        if count < shard.episodes:
            lost = shard.episodes - count
            yield Damaged(
                f"{shard.label}#{count}",
                f"the file ends after {count} of the {shard.episodes} episodes in {INFO}; {lost} are lost",
                lost,
            )

    def _episode(self, shard: TFRecordShard, number: int, record: bytes | Fault) -> RawEpisode | Damaged:
        name = f"{shard.label}#{number}"
        if not isinstance(record, Fault):
            return self._raw(name, record)
        if not record.rest:
            return Damaged(name, record.reason)
        lost = shard.episodes - number
        cost = f"{lost} of the" if lost > 0 else "it is after the"
        end = " are lost" if lost > 0 else ""
        return Damaged(name, f"{record.reason}; {cost} file's {shard.episodes} episodes{end}", max(1, lost))

    def _raw(self, name: str, record: bytes) -> RawEpisode | Damaged:
        try:
            features_by_name = features(record)
            images = stored_images(features_by_name, self._camera)
            length = len(images)
            leaf = self._instruction
            instructions = texts(features_by_name, leaf) if leaf else []
            if leaf and leaf.key.startswith("steps/") and not leaf.nested and len(instructions) != length:
                raise DamagedError(f"'{leaf.key}' has {len(instructions)} texts, '{self._camera.key}' {length} images")
            attributes = {key: attribute(features_by_name, leaf) for key, leaf in self._features.episode.items()}
            warnings = change_warnings(instructions)
        except DamagedError as error:
            return Damaged(name, str(error))
        return RawEpisode(
            name=name,
            length=length,
            images=partial(decode_images, images, self._camera, warnings),
            columns=Columns(self._numeric, lambda key: rows(features_by_name, self._numeric[key], length)),
            instruction=instructions[0] if instructions else "",
            instructions=instructions if len(instructions) == length else (),
            warnings=warnings,
            attributes={key: value for key, value in attributes.items() if value is not None},
        )


def choose_leaves(spec: RldsSpec, features: Features) -> tuple[Leaf, Leaf | None]:
    """Return the features of camera and instruction; None for an instruction that the spec states.

    Raises SourceError if a feature that the spec names is missing or has the wrong type.
    """
    camera = _find_leaf(features.steps, "camera", spec.cameras[0])
    three = not camera.shape or camera.shape[-1] == 3
    fixed = camera.kind == "image" or (camera.numeric and len(camera.shape) == 3 and camera.size > 0)
    if camera.nested or camera.dtype != "uint8" or not three or not fixed:
        raise SourceError(f"camera '{spec.cameras[0]}' is not a colour image: {_describe(camera)}")
    for field, entries, declared in spec.vectors:
        leaves = {}
        for number, entry in enumerate(entries):
            leaf = _find_leaf(features.steps, f"{field}.{number}.key", entry.key)
            if not leaf.vector:
                raise SourceError(f"{field}.{number}.key '{entry.key}' is not a vector of numbers: {_describe(leaf)}")
            leaves[entry.key] = leaf
        widths = [len(entry.columns) or leaves[entry.key].size for entry in entries]
        known = min(widths, default=0) >= 0 and not any(leaf.nested for leaf in leaves.values())
        if known and sum(widths) != declared:
            listed = ", ".join(f"{entry.key}: {width}" for entry, width in zip(entries, widths, strict=True))
            name = field.removesuffix("s")
            raise SourceError(f"{name}_width is {declared}, but {FEATURES} has {sum(widths)} ({listed}); change it")
    everything = features.episode | features.steps
    key = spec.instruction_field
    instruction = _find_leaf(everything, "instruction", key) if key else None
    if instruction and not instruction.textual:
        raise SourceError(f"instruction '{key}' is not text: {_describe(instruction)}")
    for key in spec.filter.attributes:
        _find_leaf(features.episode, "filter.attributes", key)
    if spec.split.by == "scene" and spec.split.scene is not None:
        _find_leaf(features.episode, "split.scene", spec.split.scene)
    return camera, instruction


def _find_leaf(available: dict[str, Leaf], field: str, key: str) -> Leaf:
    if key not in available:
        raise SourceError(
            f"{field}: the data set has no '{key}'; available: {', '.join(sorted(available)) or 'nothing'}"
        )
    return available[key]


def _describe(leaf: Leaf) -> str:
    sequences = f", in {leaf.nested} sequences" if leaf.nested else ""
    encoding = f", encoding {leaf.encoding}" if leaf.encoding not in ("none", "") else ""
    return f"{leaf.kind}, shape {leaf.shape}, dtype {leaf.dtype or 'unknown'}{encoding}{sequences}"


def shards(spec: RldsSpec, files: Files, folder: str) -> list[TFRecordShard]:
    """Return the shards of the chosen splits, in order, from `dataset_info.json`. Raises SourceError if there are
    none."""
    name = f"{files.uri}: {folder}{INFO}"
    info = _json(files, folder + INFO)
    try:
        form = info.get("fileFormat") or "tfrecord"
        if form != "tfrecord":
            raise SourceError(f"{name}: its files are of format {form}; only tfrecord can be read")
        listed = []
        for split in info["splits"]:
            if fnmatch.fnmatchcase(split["name"], spec.subset):
                lengths = [int(length) for length in split.get("shardLengths", ())]
                template = split.get("filepathTemplate") or TEMPLATE
                listed += [
                    _shard(template, info["name"], split["name"], folder, lengths, n) for n in range(len(lengths))
                ]
        splits = ", ".join(f"{split['name']} ({len(split.get('shardLengths', ()))})" for split in info["splits"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SourceError(f"{name} is not a dataset_info.json of TFDS ({type(error).__name__}: {error})") from None
    if not listed:
        raise SourceError(f"{name}: subset '{spec.subset}' has no files; the splits and their files are: {splits}")
    return listed


def _shard(template: str, dataset: str, split: str, folder: str, lengths: list[int], number: int) -> TFRecordShard:
    shard_number = f"{number:05d}-of-{len(lengths):05d}"
    values = {
        "DATASET": dataset, "SPLIT": split, "FILEFORMAT": "tfrecord", "SHARD_X_OF_Y": shard_number,
        "SHARD_INDEX": f"{number:05d}", "NUM_SHARDS": f"{len(lengths):05d}",
    }  # fmt: skip
    for key, value in values.items():
        template = template.replace(f"{{{key}}}", value)
    try:
        return TFRecordShard(folder + inside(template), f"{split}-{shard_number}", max(0, lengths[number]))
    except DamagedError as error:
        raise SourceError(f"{folder}{INFO}: a shard of the split '{split}' {error}") from None


def _folder(files: Files) -> str:
    """Return '' or the name of the only version folder inside the URI, with a slash.

    Raises SourceError if there is none, or more than one.
    """
    if files.exists(FEATURES):
        return ""
    versions = [path.removesuffix(FEATURES) for path in files.find(f"*/{FEATURES}")]
    if len(versions) == 1:
        return versions[0]
    if versions:
        listed = ", ".join(version.rstrip("/") for version in versions)
        raise SourceError(f"{files.uri} contains several versions: {listed}; set `uri` to one of them")
    raise SourceError(
        f"{files.uri} has no {FEATURES}, which is needed to parse its records; "
        f"`uri` must be the folder that TFDS wrote, with {FEATURES}, {INFO} and the shards"
    )


def _json(files: Files, path: str) -> Json:
    try:
        return parse_json(files.bytes(path))
    except MISSING:
        raise SourceError(f"{files.uri} has no {path}; copy it from the original data set") from None
    except (DamagedError, OSError, ValueError) as error:
        raise SourceError(f"{files.uri}: {path} cannot be read: {error}") from None
