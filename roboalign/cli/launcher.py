"""The installed command `roboalign`. In a project or a checkout, it runs the code of that folder."""

import os
import sys
from pathlib import Path


def main() -> int:
    """Run one command and return its exit code.

    A project's stages run its own code, so its commands must too: another version could read its specs otherwise.
    """
    folder = Path.cwd()
    if (folder / "dvc.yaml").is_file() and (folder / "roboalign/__main__.py").is_file():
        os.execv(sys.executable, [sys.executable, "-m", "roboalign", *sys.argv[1:]])
    from roboalign.__main__ import main as run

    return run()
