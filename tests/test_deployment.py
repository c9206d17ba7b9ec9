"""The Dockerfile and the SLURM script: their form, and that what they name exists, without Docker and SLURM."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from roboalign.hardware.spec import HardwareSpec
from roboalign.spec.single import single

ROOT = Path(__file__).parent.parent
DOCKERFILE, SBATCH = ROOT / "Dockerfile", ROOT / "examples/slurm.sbatch"
HOST = re.compile(r"\b(?:[a-z0-9-]+\.)+(?:com|org|net|io|dev|ai|edu|cloud)\b|://")
OPTIONS = {
    "job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "requeue", "open-mode", "output",
}  # fmt: skip
"""Options of sbatch (its manual page) that the script may use."""


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, with their arguments in one line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, arguments = line.partition(" ")
        yield name, arguments.strip()


FOUND = list(instructions(DOCKERFILE.read_text(encoding="utf-8")))


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def arguments_of(name: str) -> list[str]:
    return [arguments for instruction, arguments in FOUND if instruction == name]


def test_the_image_has_a_pinned_cuda_base_and_known_instructions() -> None:
    assert FOUND[0][0] == "FROM"
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-runtime-ubuntu\d\d\.\d\d", FOUND[0][1])
    assert {name for name, _ in FOUND} == {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "CMD"}
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    toolkit = re.search(r"^cuda-toolkit==(\d+)", lock, re.MULTILINE)
    assert toolkit is not None
    assert FOUND[0][1].startswith(f"nvidia/cuda:{toolkit[1]}."), "the major version of CUDA that torch is built for"
    assert not HOST.search("\n".join(arguments for _, arguments in FOUND)), "no host but that of the base image"


def test_the_image_copies_files_that_exist_and_installs_before_it_copies_the_code() -> None:
    files = tracked_files()
    for arguments in arguments_of("COPY"):
        *sources, _ = shlex.split(arguments)
        for source in sources:
            assert source == "." or source in files, source
    setup = next(number for number, (name, text) in enumerate(FOUND) if name == "RUN" and "make setup" in text)
    assert setup < FOUND.index(("COPY", ". ."))
    copied = {source for _, text in FOUND[:setup] for source in shlex.split(text)[:-1]}
    assert {"Makefile", "requirements.lock", "scripts/setup"} <= copied


@pytest.mark.parametrize("command", arguments_of("RUN"))
def test_the_commands_of_the_image_are_valid_shell(command: str) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True)
    for target in re.findall(r"(?:^|&& )make (\w+)", command):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if "apt-get install" in command:
        assert "rm -rf /var/lib/apt/lists" in command
        assert "--no-install-recommends" in command
        needed = re.findall(r"apt-get install ([\w ./-]+)\"", (ROOT / "scripts/setup").read_text(encoding="utf-8"))
        packages = {package for line in needed for package in line.split()} - {"chromium"}
        assert {"libegl1", "python3-venv"} <= packages <= set(command.split())


def test_the_image_has_no_data_and_results() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    patterns = [line for line in ignored if line and not line.startswith("#")]
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    for name in (line.strip("/") for line in lines if not line.startswith("!")):
        assert name in patterns or f"**/{name}" in patterns, f".dockerignore lacks {name}"
    for path in tracked_files():
        parents = [path, *map(str, Path(path).parents)]
        assert not any(fnmatch(each, pattern) for each in parents for pattern in patterns), path


def sbatch_options() -> dict[str, str]:
    lines = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", SBATCH.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(lines)


def test_the_slurm_script_is_valid_shell_with_known_options() -> None:
    text = SBATCH.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    assert text.count("#SBATCH") == len(sbatch_options())
    assert sbatch_options().keys() == OPTIONS
    assert text.rindex("#SBATCH") < text.index("set -euo pipefail"), "sbatch reads options before the first command"
    assert not HOST.search(text)
    modules = re.findall(r"^python -m (\S+) (\w+)$", text, re.MULTILINE)
    assert modules == [("roboalign", "check")]
    assert re.search(r'^dvc repro "\$@"$', text, re.MULTILINE)


def test_the_slurm_script_asks_for_what_its_hardware_spec_uses() -> None:
    hardware: HardwareSpec = single(ROOT, ROOT / "specs/hardware/slurm.yaml", "hardware")
    device, options = hardware.device, sbatch_options()
    assert hardware.launcher == "srun"
    assert (options["nodes"], options["gpus-per-node"]) == (str(device.nodes), str(device.devices))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert options["cpus-per-task"] == str(device.threads)
