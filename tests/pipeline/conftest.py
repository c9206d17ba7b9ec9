import pytest

from roboalign.hardware.spec import DaskSpec, ExecutorSpec, ProcessesSpec


@pytest.fixture(
    params=[
        pytest.param(ProcessesSpec(kind="processes", workers=2), id="two"),
        pytest.param(ProcessesSpec(kind="processes", workers=4), id="four", marks=pytest.mark.slow),
        pytest.param(DaskSpec(kind="dask", scheduler="local", workers=2), id="dask", marks=pytest.mark.slow),
    ]
)
def executor(request: pytest.FixtureRequest) -> ExecutorSpec:
    """Executors with several workers."""
    chosen: ExecutorSpec = request.param
    return chosen
