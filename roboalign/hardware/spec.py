"""The hardware: devices, precision, workers, limits."""

from typing import Annotated, Literal

from pydantic import Field

from roboalign.spec.base import Spec


class DeviceSpec(Spec):
    """Devices for training and rollouts. Any field may change the bits of a result, so stages re-run for it."""

    accelerator: Literal["cpu", "cuda"] = "cpu"
    """Kind of device."""
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    """Devices of each node."""
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Machines; several need `hardware.launcher: srun`."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Lightning's precision of training steps."""
    compile: bool = False
    """Compile the world model's transformer with torch.compile, in training and in long rollouts. On a CPU that costs a
    minute or more a stage and gains nothing for small models."""
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    """CPU threads of one process."""
    loader_workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Data-loading processes of one training process; 0 loads in the training process."""

    @property
    def ranks(self) -> int:
        """Processes that train together, one for each device."""
        return self.devices * self.nodes


class ProcessesSpec(Spec):
    """Record and convert episodes on this machine, in a pool of processes."""

    kind: Literal["processes"]
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Number of processes; 0 takes one for each core of the machine."""


class DaskSpec(Spec):
    """Record and convert episodes on a cluster, by dask.distributed (needs the extra: cluster).

    Every worker needs this checkout, its environment, and its folder on a file system that all of them share.
    """

    kind: Literal["dask"]
    scheduler: Annotated[str, Field(min_length=1, max_length=1000)]
    """Address of the scheduler, such as tcp://10.0.0.1:8786, or `local` for a cluster on this machine."""
    workers: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Processes of a `local` cluster; 0 takes one for each core. A scheduler elsewhere has its own workers."""


ExecutorSpec = Annotated[ProcessesSpec | DaskSpec, Field(discriminator="kind")]
"""Where episodes are recorded and converted, told apart by `kind`."""


class LimitsSpec(Spec):
    """Capacity of the hardware, for the checks and estimates of `check` and `plan`."""

    memory_gb: Annotated[float, Field(gt=0, le=100_000)] = 6.0
    """Memory of one device in GB (of the machine, for `cpu`); an experiment that cannot fit is refused."""
    teraflops: Annotated[float, Field(gt=0, le=10_000)] = 0.1
    """Matrix-product rate of one device in TFLOP/s at its precision, for time estimates."""


class HardwareSpec(Spec):
    """Hardware that stages run on. Only `device` can change a result; no stage re-runs for the others."""

    device: DeviceSpec = DeviceSpec()
    """Training and rollout."""
    launcher: Literal["torchrun", "srun"] = "torchrun"
    """How the processes of a training start if there are several devices: torchrun on this machine, or srun within a
    SLURM allocation, in which `dvc repro` runs on the first node."""
    executor: ExecutorSpec = ProcessesSpec(kind="processes")
    """Recording and conversion of episodes."""
    cache: Annotated[str, Field(min_length=1, max_length=1000)] = ".scratch/files"
    """The folder that caches remote data sets."""
    limits: LimitsSpec = LimitsSpec()
    """Memory and speed of a device."""
