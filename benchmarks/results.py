"""The measured figures, kept in `benchmarks/RESULTS.md`: a section a benchmark, replaced when it is run again."""

import datetime
import os
import platform
import re
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
_TITLE = """# Measured

Each section is written by the script that it names. Timings hold for the machine and the day that they tell.
"""


def machine() -> str:
    """The processor, its cores, and the day, as a line below a section's title."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    model = found.group(1) if found else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, {datetime.date.today().isoformat()}."


def record(section: str, text: str, path: Path = RESULTS) -> None:
    """Put `text` under the heading `section`, in place of what was there; sections stay in alphabetical order."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    pieces = re.split(r"^## (.+)\n", old, flags=re.MULTILINE)
    sections = dict(zip(pieces[1::2], (body.strip() for body in pieces[2::2]), strict=True))
    sections[section] = text.strip()
    parts = [_TITLE, *(f"## {name}\n\n{sections[name]}\n" for name in sorted(sections))]
    path.write_text("\n".join(parts), encoding="utf-8")
