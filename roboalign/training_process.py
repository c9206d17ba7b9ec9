"""Settings of a process while it trains: output, memory, precision."""

import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from roboalign.hardware.spec import DeviceSpec


@contextmanager
def suppress_output() -> Iterator[None]:
    """Suppress Lightning's hardware report and advertisements, and warnings about its own code."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            # Batches come from memory, so more loading processes than the spec's would not help.
            warnings.filterwarnings("ignore", r".*does not have many workers")
            # Reward models keep their frozen state probe in evaluation mode on purpose.
            warnings.filterwarnings("ignore", r".*module\(s\) in eval mode at the start of training")
            yield
    finally:
        log.setLevel(level)


def keep_memory() -> None:
    """Make glibc keep freed memory for later tensors; does nothing on other systems.

    By default, glibc returns large blocks to the kernel, which clears their pages again in the next step. On a CPU that
    takes a tenth of a step.
    """
    most_mapped_blocks, least_to_trim = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL("libc.so.6")
            library.mallopt(most_mapped_blocks, 0)
            library.mallopt(least_to_trim, -1)


@contextmanager
def training_numerics(device: DeviceSpec) -> Iterator[None]:
    """Compute in TensorFloat-32 and by nondeterministic algorithms if `device` allows it; afterwards as before."""
    cuda = device.accelerator == "cuda"
    before = (
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.allow_tf32,
    )
    torch.set_float32_matmul_precision("high" if device.tf32 and cuda else "highest")
    torch.use_deterministic_algorithms(device.deterministic, warn_only=cuda)
    if cuda:
        torch.backends.cudnn.allow_tf32 = device.tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
        if cuda:
            torch.backends.cudnn.allow_tf32 = before[3]
