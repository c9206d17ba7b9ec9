"""The machine, the versions and the revision that something ran with, for records that are not outputs."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from roboalign.types import Json

PACKAGES = ("torch", "lightning", "numpy", "dvc")
"""The packages whose versions are recorded."""


def describe_machine() -> dict[str, Json]:
    """Processor, cores, memory, GPUs, operating system, and versions of Python and of PACKAGES."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def cpu_name() -> str:
    """The processor's name; the architecture if the system does not tell it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def revision(root: Path) -> str:
    """The commit of the checkout, with ` + changes` if tracked files differ from it; `unknown` outside of git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" + changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
