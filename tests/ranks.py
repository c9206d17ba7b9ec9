"""Ranks of a training: this process as the only one, or processes that a fork server starts with all imported."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from roboalign.distributed import TRAINING
from roboalign.hardware.spec import DeviceSpec

MODULES = ["roboalign.training", "roboalign.world_model.lit", "roboalign.rl.lit"]
PATIENCE_S = 2
"""How long the other ranks may go on after one has failed: they wait for it."""


def run_ranks(label: str, function: Callable[..., object], *arguments: Any, count: int = 2) -> list[int]:
    """Run `function(*arguments)`, which trains `label`, in each of some ranks.

    Returns their exit codes: 0 for success, -9 for those that were killed.
    """
    port = _free_port()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    ranks = [
        context.Process(target=_rank, args=(number, count, port, label, function, arguments)) for number in range(count)
    ]
    for each in ranks:
        each.start()
    failed: float | None = None
    while any(each.is_alive() for each in ranks):
        time.sleep(0.02)
        if failed is None and any(each.exitcode not in (None, 0) for each in ranks):
            failed = time.monotonic()
        if failed is not None and time.monotonic() > failed + PATIENCE_S:
            for each in ranks:
                each.kill()
    return [each.exitcode or 0 for each in ranks]


@contextmanager
def as_only_rank(label: str) -> Iterator[None]:
    """Let this process be the only rank of the training `label`, whose weights are sharded all the same.

    `fit` ends a rank that has trained by SystemExit(0), which ends here. Other errors pass.
    """
    # A single rank does not shard; so all that shards and gathers runs without further processes.
    sharding = mock.patch.object(DeviceSpec, "weight_shards", 2)
    try:
        with (
            sharding,
            mock.patch.dict(os.environ, _variables(0, 1, _free_port(), label)),
            pytest.raises(SystemExit) as end,
        ):
            yield
        assert end.value.code == 0
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _variables(number: int, count: int, port: int, label: str) -> dict[str, str]:
    """The environment variables of a rank that torchrun has started."""
    return {
        TRAINING: label, "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count), "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def _rank(
    number: int, count: int, port: int, label: str, function: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """What each rank does."""
    torch.set_num_threads(1)
    os.environ |= _variables(number, count, port, label)
    function(*arguments)
