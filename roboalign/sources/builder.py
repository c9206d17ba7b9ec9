"""Builds simulators and readers from source specs."""

from pathlib import Path
from typing import assert_never

from roboalign.sources.readers.camera_set import CameraSet
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.instruction import InstructedReader
from roboalign.sources.readers.reader import Reader
from roboalign.sources.readers.spec import (
    AlohaSpec,
    CalvinSpec,
    CtrlWorldSpec,
    LerobotSpec,
    LiberoSpec,
    NpzEpisodesSpec,
    RecordedSpec,
    RldsSpec,
    VideosSpec,
)
from roboalign.sources.readers.subtasks import SubtaskReader
from roboalign.sources.simulators.pusher import DisplacementController
from roboalign.sources.simulators.simulator import Simulator
from roboalign.sources.simulators.spec import (
    DisplacementRobotSpec,
    FetchSpec,
    JacoSpec,
    MetaworldSpec,
    PandaSpec,
    SimulatedRobotSpec,
)


def build_simulator(spec: SimulatedRobotSpec, task: str) -> Simulator:
    """Build the simulator of one task of a source. Raises SourceError if its package or EGL is missing."""
    match spec:
        case MetaworldSpec():
            from roboalign.sources.simulators.metaworld import Metaworld

            return next(
                Metaworld(name, task_spec, spec.image) for name, task_spec in spec.tasks.items() if name == task
            )
        case FetchSpec():
            from roboalign.sources.simulators.fetch import Fetch

            return next(Fetch(name, task_spec, spec.image) for name, task_spec in spec.tasks.items() if name == task)
        case PandaSpec():
            from roboalign.sources.simulators.panda import Panda

            return next(Panda(name, task_spec, spec.image) for name, task_spec in spec.tasks.items() if name == task)
        case JacoSpec():
            from roboalign.sources.simulators.jaco import Jaco

            return next(Jaco(name, task_spec, spec.image) for name, task_spec in spec.tasks.items() if name == task)
        case _:
            assert_never(spec)


def load_controller(spec: DisplacementRobotSpec) -> DisplacementController:
    """The scripted controller of a robot, as its simulator's expert uses it."""
    match spec:
        case FetchSpec():
            from roboalign.sources.simulators import fetch

            return fetch.CONTROLLER
        case PandaSpec():
            from roboalign.sources.simulators import panda

            return panda.CONTROLLER
        case _:
            assert_never(spec)


def build_reader(spec: RecordedSpec, cache: Path) -> Reader:
    """Build the reader of a data set, which caches remote files in `cache`. Raises SourceError if it cannot be
    opened."""
    files = Files.at(spec.uri, spec.options, cache)
    reader: Reader
    if len(spec.cameras) == 1:
        reader = build_format_reader(spec, files)
    else:
        single_camera_specs = {camera: spec.model_copy(update={"camera": camera}) for camera in spec.cameras}
        reader = CameraSet({camera: build_format_reader(each, files) for camera, each in single_camera_specs.items()})
    if spec.instruction_changes == "split":
        reader = SubtaskReader(reader)
    if not isinstance(spec.instruction, str):
        reader = InstructedReader(reader, spec.instruction)
    return reader


def build_format_reader(spec: RecordedSpec, files: Files) -> Reader:
    """Build the reader of the spec's format for the first of its cameras.

    Raises SourceError if the data set has another format.
    """
    match spec:
        case RldsSpec():
            from roboalign.sources.readers.rlds import Rlds

            return Rlds(spec, files)
        case LerobotSpec():
            from roboalign.sources.readers.lerobot import Lerobot

            return Lerobot(spec, files)
        case CalvinSpec():
            from roboalign.sources.readers.calvin import Calvin

            return Calvin(spec, files)
        case LiberoSpec():
            from roboalign.sources.readers.libero import Libero

            return Libero(spec, files)
        case VideosSpec():
            from roboalign.sources.readers.videos import Videos

            return Videos(spec, files)
        case NpzEpisodesSpec():
            from roboalign.sources.readers.npz_episodes import NpzEpisodes

            return NpzEpisodes(spec, files)
        case AlohaSpec():
            from roboalign.sources.readers.aloha import Aloha

            return Aloha(spec, files)
        case CtrlWorldSpec():
            from roboalign.sources.readers.ctrl_world import CtrlWorld

            return CtrlWorld(spec, files)
        case _:
            assert_never(spec)
