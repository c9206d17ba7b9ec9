"""From a source's spec to its simulator."""

from typing import assert_never

from roboalign.sources.simulator import Simulator, SourceError
from roboalign.sources.spec import (
    CalvinSpec,
    FetchSpec,
    JacoSpec,
    LiberoSpec,
    MetaworldSpec,
    PandaSpec,
    RldsSpec,
    SimulatedRobotSpec,
    SourceSpec,
)


def simulated(spec: SourceSpec) -> SimulatedRobotSpec:
    """The spec, if it is a simulated robot's. Raises SourceError for data sets: this version has no reader for them."""
    match spec:
        case MetaworldSpec() | FetchSpec() | PandaSpec() | JacoSpec():
            return spec
        case RldsSpec() | CalvinSpec() | LiberoSpec():
            raise SourceError(
                f"this version has no reader for sources of kind {spec.kind} ({spec.uri}); "
                "list simulated robots (metaworld, fetch, panda, jaco) in params.yaml"
            )
        case _:
            assert_never(spec)


def build_simulator(spec: SimulatedRobotSpec, task: str) -> Simulator:
    """The simulator of one task of a source. Raises SourceError where its package or EGL is missing."""
    match spec:
        case MetaworldSpec():
            from roboalign.sources.metaworld import Metaworld

            return next(Metaworld(name, each, spec.image) for name, each in spec.tasks.items() if name == task)
        case FetchSpec():
            from roboalign.sources.fetch import Fetch

            return next(Fetch(name, each, spec.image) for name, each in spec.tasks.items() if name == task)
        case PandaSpec():
            from roboalign.sources.panda import Panda

            return next(Panda(name, each, spec.image) for name, each in spec.tasks.items() if name == task)
        case JacoSpec():
            from roboalign.sources.jaco import Jaco

            return next(Jaco(name, each, spec.image) for name, each in spec.tasks.items() if name == task)
        case _:
            assert_never(spec)
