from collections.abc import Iterator

import pytest

from roboalign.executor import Workers, open_workers
from roboalign.hardware.spec import DaskSpec, ProcessesSpec


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(ProcessesSpec(kind="processes", workers=2), id="two"),
        pytest.param(ProcessesSpec(kind="processes", workers=4), id="four", marks=pytest.mark.slow),
        pytest.param(DaskSpec(kind="dask", scheduler="local", workers=2), id="dask", marks=pytest.mark.slow),
    ],
)
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Several workers, which stay for all tests: each takes seconds to start."""
    with open_workers(request.param) as opened:
        yield opened


@pytest.fixture(scope="session")
def alone() -> Iterator[Workers]:
    """One worker: this process."""
    with open_workers(ProcessesSpec(kind="processes", workers=1)) as opened:
        yield opened
