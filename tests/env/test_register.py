"""Registration, in processes of their own."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_importing_registers_all_of_them_and_loads_no_models() -> None:
    printed = run(
        "import sys, gymnasium, roboalign.env; import importlib; importlib.reload(roboalign.env)\n"
        "print(*sorted(name for name in gymnasium.registry if 'roboalign' in name), 'torch' in sys.modules)"
    )
    names = " ".join(f"roboalign/{name}-v0" for name in ("Fetch", "Jaco", "Metaworld", "Panda", "WorldModel"))
    assert printed.splitlines() == [f"{names} False"]


def test_the_code_of_the_page_runs(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of docs/environments.md, one after the other, in an experiment's folder."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/environments.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(experiment)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    names["robot"].close()
