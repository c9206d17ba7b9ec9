"""The hardware: devices, precision, workers, limits. No default is from the paper."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from roboalign.spec.base import Spec, items


class SamplerSpec(Spec):
    """How world models compute the tokens of their rollouts."""

    batch_invariant: bool = True
    """Make every rollout independent of the rest of its batch, to the last bit: rows are multiplied `block` at a time
    and prompts are read one at a time. False is faster: all rows at once, prompts read together, and keys and values
    of a prompt stored once for all of its rollouts. docs/devices.md has the cost."""
    block: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rows of one matrix product with `batch_invariant`; fewer rows are padded. On a GPU take the rows of a batch."""
    precision: Literal["32-true", "bf16-true"] = "32-true"
    """Numbers of the layers' weights and of the key-value cache; embeddings, residual stream and logits are float32."""
    compile: bool = False
    """Compile the drawing of a token by torch.compile, on a GPU with CUDA graphs, with a cache of a fixed size. Needs
    `batch_invariant: false`: compiled kernels depend on the number of rows."""

    @field_validator("compile")
    @classmethod
    def _compile(cls, compiled: bool, info: ValidationInfo) -> bool:
        if compiled and info.data.get("batch_invariant"):
            raise ValueError("compiled kernels depend on the number of rows; set batch_invariant to false")
        return compiled


class DeviceSpec(Spec):
    """Devices for training and rollouts. A change of any field can change results in their last bits, so it re-runs the
    stages."""

    accelerator: Literal["cpu", "cuda"] = "cpu"
    """Kind of device."""
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    """Devices per node."""
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Machines; several need `hardware.launcher: srun`."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Lightning's precision for training steps."""
    tf32: bool = False
    """Compute float32 matrix products and convolutions of training steps in TensorFloat-32 (10 bits of mantissa instead
    of 23); does nothing on a CPU."""
    deterministic: bool = True
    """Use deterministic algorithms in training steps (`torch.use_deterministic_algorithms`). On a CPU the same specs
    then give the same bytes; on a GPU operations without such an algorithm warn, and can differ between runs."""
    fused_adamw: bool = False
    """Update all parameters of AdamW by one kernel (`fused` of torch.optim.AdamW), which rounds differently. Not with
    `16-mixed`, whose gradients must be unscaled before they are clipped."""
    compile: bool = False
    """Compile the world model's transformer in training by torch.compile. On a CPU this takes a minute or more for each
    stage and does not speed up small models."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How devices share the world model in its training, and policy and reference in alignment. With `ddp`, each
    device has all of it. With `fsdp` (FSDP2), each has a part of weights, gradients and optimizer states, and a layer
    is gathered when it computes. Other parts are always whole. `fsdp` is not for `16-mixed` and `compile`."""
    sampler: SamplerSpec = SamplerSpec()
    """Sampling from world models."""
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    """CPU threads per process."""
    loader_workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Data-loading processes per training process; 0 loads data in the training process."""

    @field_validator("fused_adamw")
    @classmethod
    def _fused_adamw(cls, fused: bool, info: ValidationInfo) -> bool:
        if fused and info.data.get("precision") == "16-mixed":
            raise ValueError("must be false with precision 16-mixed; take bf16-mixed, or set this to false")
        return fused

    @field_validator("strategy")
    @classmethod
    def _strategy(cls, strategy: str, info: ValidationInfo) -> str:
        if strategy == "fsdp" and info.data.get("precision") == "16-mixed":
            raise ValueError("fsdp does not scale gradients of 16-mixed; set precision to bf16-mixed, or take ddp")
        if strategy == "fsdp" and info.data.get("compile"):
            raise ValueError("fsdp gathers layers, which compiled graphs do not see; set compile to false, or take ddp")
        return strategy

    @property
    def ranks(self) -> int:
        """Processes that train together, one for each device."""
        return self.devices * self.nodes

    @property
    def weight_shards(self) -> int:
        """Devices over which the weights of the world model are sharded; 1 if each device has all of them."""
        return self.ranks if self.strategy == "fsdp" else 1


Parts = Annotated[int, Field(ge=1, le=65_536)]
"""A number of micro-batches."""


class MicroBatchesSpec(Spec):
    """In how many parts, one after another, each device computes the gradient of a step, so that it fits into memory.

    The gradient is that of the whole batch, so the number changes results by rounding alone, except for dropout. It can
    be changed between two runs of a stage and does not re-run it. It must divide the samples that a device has in a
    step: `training.batch_size` over the number of devices.
    """

    tokenizer: Parts = 1
    """Parts of a batch of clips."""
    world_model: Parts = 1
    """Parts of a batch of segments."""
    probe: Parts = 1
    """Parts of a batch of clips of each state probe and of the outcome model."""
    judge: Parts = 1
    """Parts of a batch of sets of clips of the judge and the held-out judge."""
    student: Parts = 1
    """Parts of a batch of sets of clips."""
    rl: Parts = 1
    """Parts of the rollouts of a step whose activations are in memory at a time, in the policy and in the decoder. The
    rollouts of a prompt share their context within a part, so parts of whole groups take the least memory."""
    rl_sampling: Parts = 1
    """Parts of the rollouts of a step that are sampled and rewarded at a time; bounds caches and encoded contexts."""
    policies: Parts = 1
    """Parts of a batch of frames of behaviour cloning."""


class ProcessesSpec(Spec):
    """Does work that splits by episode on this machine, in a pool of processes."""

    kind: Literal["processes"]
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Number of processes; 0 uses one for each core."""


class DaskSpec(Spec):
    """Does work that splits by episode on a cluster by dask.distributed (needs the extra `cluster`).

    Every worker needs the environment, and this checkout on a shared file system.
    """

    kind: Literal["dask"]
    scheduler: Annotated[str, Field(min_length=1, max_length=1000)]
    """Address of the scheduler, such as tcp://10.0.0.1:8786, or `local` for a cluster on this machine."""
    workers: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Number of processes of a `local` cluster; 0 uses one for each core. Other schedulers have their own workers."""


ExecutorSpec = Annotated[ProcessesSpec | DaskSpec, Field(discriminator="kind")]
"""The executor of work that splits by episode, distinguished by `kind`."""


class LimitsSpec(Spec):
    """Capacity of the hardware, for `check` and `plan`."""

    memory_gb: Annotated[float, Field(gt=0, le=100_000)] = 6.0
    """Memory of one device in GB (of the machine for `cpu`). `check` rejects experiments that do not fit."""
    ram_gb: Annotated[float, Field(gt=0, le=100_000)] = 24.0
    """RAM of the machine in GB, beside the memory of a GPU; with `cpu`, `memory_gb` is the RAM."""
    teraflops: Annotated[float, Field(gt=0, le=10_000)] = 0.1
    """Matrix-product rate of one device in TFLOP/s at its precision, for time estimates."""


LoggerName = Literal["csv", "tensorboard", "wandb", "mlflow"]
"""A logger of Lightning."""


class HardwareSpec(Spec):
    """The hardware that stages run on. Only a change of `device` re-runs stages; of the other fields, `micro_batches`
    changes rounding, the rest changes no result."""

    device: DeviceSpec = DeviceSpec()
    """Devices for training and rollouts."""
    launcher: Literal["torchrun", "srun"] = "torchrun"
    """How the processes of a training start if there are several devices: torchrun on this machine, or srun within a
    SLURM allocation, in which `dvc repro` runs on the first node."""
    micro_batches: MicroBatchesSpec = MicroBatchesSpec()
    """Parts in which gradients are computed (gradient accumulation)."""
    activation_checkpointing: bool = False
    """Keep the inputs of the world model's layers alone for the backward pass, in its training and in alignment, and
    compute the rest again: a third more time, a fraction of the memory, the same values."""
    executor: ExecutorSpec = ProcessesSpec(kind="processes")
    """The executor for recording and converting episodes; on a CPU also for encoding tokens, rollouts and scores."""
    cache: Annotated[str, Field(min_length=1, max_length=1000)] = ".scratch/files"
    """Folder in which files of remote data sets are cached."""
    loggers: Annotated[tuple[LoggerName, ...], items(0, 4)] = ()
    """Loggers of live training curves, beside the curves under plots/ (extra `loggers`). `csv` and `tensorboard` write
    to logs/<training>/; `wandb` and `mlflow` follow their own environment variables, such as WANDB_MODE=offline and
    MLFLOW_TRACKING_URI."""
    limits: LimitsSpec = LimitsSpec()
    """Memory and speed of one device."""
