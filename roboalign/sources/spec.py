"""Union of the source specs: simulated robots that are recorded, and data sets that are read."""

from typing import Annotated

from pydantic import Field

from roboalign.sources.readers.spec import (
    AlohaSpec,
    CalvinSpec,
    CtrlWorldSpec,
    DatasetSpec,
    LerobotSpec,
    LiberoSpec,
    NpzEpisodesSpec,
    RecordedSpec,
    RldsSpec,
    VideosSpec,
)
from roboalign.sources.simulators.spec import FetchSpec, JacoSpec, MetaworldSpec, PandaSpec, SimulatedRobotSpec

__all__ = [
    "AlohaSpec",
    "CalvinSpec",
    "CtrlWorldSpec",
    "DatasetSpec",
    "FetchSpec",
    "JacoSpec",
    "LerobotSpec",
    "LiberoSpec",
    "MetaworldSpec",
    "NpzEpisodesSpec",
    "PandaSpec",
    "RecordedSpec",
    "RldsSpec",
    "SimulatedRobotSpec",
    "SourceSpec",
    "VideosSpec",
]

SourceSpec = Annotated[SimulatedRobotSpec | RecordedSpec, Field(discriminator="kind")]
"""A source of episodes, discriminated by `kind`."""
