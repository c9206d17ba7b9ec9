"""What the campaigns share: a place to print their figures, and a disk that is nearly full."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Tell = Callable[..., None]

SCALE = int(os.environ.get("ROBOALIGN_ATTACK", "1"))
"""Factor on the numbers of mutants of the long campaigns."""


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print a campaign's figures, past pytest's capture."""

    def print_figures(campaign: str, **figures: float) -> None:
        with capsys.disabled():
            print(f"\n{campaign}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))

    return print_figures


def mount(folder: Path, options: str) -> bool:
    """Mount memory at a folder; False if this user may not."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 128 KiB; without the right to mount one, a folder in which no file grows beyond that."""
    folder, size = tmp_path / "disk", 128 * 1024
    folder.mkdir()
    if mount(folder, f"size={size}"):
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that holds the file `kept`, and in which nothing can be written."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    mounted = mount(folder, "size=64k")
    (folder / "kept").write_text("kept")
    if mounted:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        folder.chmod(0o555)
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    else:
        folder.chmod(0o755)
