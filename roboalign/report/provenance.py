"""The section on provenance: revision, hashes, hardware, and time by stage.

These differ between runs and machines, so they are not part of the page, whose bytes DVC hashes. `provenance_script`
gives the content of `provenance.js`, a file beside the page that DVC ignores (.dvcignore) and that the page reads.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from roboalign.io import read_json
from roboalign.machine import describe_machine, revision
from roboalign.report.blocks import LocalTables, Prose, Section
from roboalign.report.inputs import Inputs
from roboalign.report.names import DASH, dig, significant
from roboalign.types import Json

FILE = "provenance.js"
"""The file beside the page."""

VARIABLE = "roboalignProvenance"
"""The variable of the page's window that FILE sets."""

TEXT = (
    "Where these results come from. Times and hardware are those of the last run of each stage on the machine that "
    "wrote this report. The hashes are those of dvc.lock: equal hashes mean equal bytes."
)

ABSENT = (
    "provenance.js is not beside this page. It differs between runs, so dvc pull does not fetch it; run the stage "
    "report, or copy the whole folder."
)


def provenance(inputs: Inputs) -> Section:
    """The place of the tables, which the script of the page fills; empty if nothing was measured."""
    if not inputs.metrics:
        return Section("provenance", "Provenance", [])
    return Section("provenance", "Provenance", [Prose([TEXT]), LocalTables(FILE, ABSENT)])


def provenance_script(root: Path) -> str:
    """The content of FILE, from the checkout at `root`: its dvc.lock, its timings, and the machine."""
    tables = [environment_table(root), stage_table(root)]
    return f"window.{VARIABLE} = {json.dumps(tables, indent=1, ensure_ascii=True)};\n"


def environment_table(root: Path) -> dict[str, Json]:
    """The revision, the machine and the versions at hand."""
    machine = describe_machine()
    rows = [
        ["Revision", revision(root)],
        ["Processor", f"{machine['cpu']}, {machine['cores']} cores"],
        ["Memory", f"{machine['memory_gib']} GiB"],
        ["GPUs", ", ".join(machine["gpus"]) or "none"],
        ["System", machine["system"]],
        ["Python", machine["python"]],
        *([name, version] for name, version in machine["packages"].items()),
    ]
    return {"caption": "This machine", "head": ["", "Value"], "rows": [[[text, ""] for text in row] for row in rows]}


def stage_table(root: Path) -> dict[str, Json]:
    """Time, revision, hardware and output hashes of each stage in dvc.lock; without dvc.lock, no rows."""
    lock = root / "dvc.lock"
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    rows, total = [], 0.0
    for name, stage in stages.items():
        timings = root / "timings" / f"{name}.json"
        record = read_json(timings) if timings.exists() else {}
        seconds = seconds_of(record)
        total += seconds or 0.0
        ran = dig(record, "stage") or {}
        place = f"{dig(ran, 'cpu')}, {dig(ran, 'cores')} cores" if ran else DASH
        gpus = ", ".join(dig(ran, "gpus") or ())
        outs = [f"{out['path']} {out.get('md5', '')[:12]}" for out in stage.get("outs", [])]
        rows.append(
            [
                [name, ""],
                [DASH if seconds is None else duration(seconds), ""],
                [str(dig(ran, "revision") or DASH)[:12], ""],
                [gpus or place, ""],
                ["", "\n".join(outs)],
            ]
        )
    head = ["Stage", "Time", "Revision", "Hardware", "Outputs and their hashes"]
    return {"caption": f"Stages, {duration(total)} in all", "head": head, "rows": rows}


def seconds_of(record: Mapping[str, Json]) -> float | None:
    """The wall-clock time in a stage's timings: of the whole stage, else of its main part; None if it has none."""
    value = dig(record, "stage", "seconds")
    value = record.get("seconds") if value is None else value
    if isinstance(value, Mapping):
        return float(sum(value.values()))
    return float(value) if isinstance(value, int | float) else None


def duration(seconds: float) -> str:
    """A time as minutes and seconds: `12 min 05 s`; as seconds below a minute."""
    if seconds < 60:
        return f"{significant(round(seconds, 1))} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
