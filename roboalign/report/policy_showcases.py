"""The clips of policies that the report shows: the same policy and first frame in the simulator and in each model."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from roboalign.io import read_tsv
from roboalign.report.names import dig, title
from roboalign.report.showcases import ClipColumn, Showcase
from roboalign.types import Json, UInt8


def policy_showcases(folder: Path, spec: Json) -> Iterator[Showcase]:
    """The showcases of the stage's output `folder`; `spec` is the section `policies`."""
    rows = read_tsv(folder / "success.tsv")
    if not rows:
        return
    verdicts = {(r["world"], r["policy"], r["source"], r["episode"]): float(r["probability"]) for r in rows}
    clips = {file.stem: dict(read_clips(file)) for file in sorted((folder / "clips").glob("*.npz"))}
    order = [world for world in ("simulator", "supervised", "aligned") if world in clips]
    for source in dict.fromkeys(row["source"] for row in rows):
        for policy, pick in _choose(rows, source, spec):
            key = f"{policy}/{source}"
            episode = next(r["episode"] for r in rows if r["source"] == source)
            columns = [
                ClipColumn(
                    world, title(world), clips[world][key][0], _verdict(verdicts, world, policy, source, episode)
                )
                for world in order
                if key in clips[world]
            ]
            if len(columns) > 1:
                yield Showcase(episode, source, title(policy), {"success": pick}, columns)


def read_clips(file: Path) -> Iterator[tuple[str, UInt8]]:
    """The clips (C, T + 1, H, W, 3) of a file by `<policy>/<source>`."""
    with np.load(file, allow_pickle=False) as arrays:
        yield from ((name, arrays[name]) for name in arrays.files)


def _choose(rows: list[dict[str, str]], source: str, spec: Json) -> list[tuple[str, str]]:
    """The policies with the highest and the lowest success in the simulator, of those that act on images if any does,
    with the rule by which each was chosen."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        if row["world"] == "simulator" and row["source"] == source:
            rates.setdefault(row["policy"], []).append(float(row["success"]))
    acting = [name for name in rates if dig(spec, "policies", name, "kind") != "scripted"] or list(rates)
    ranked = sorted(acting, key=lambda name: (-float(np.mean(rates[name])), name))
    return [(ranked[0], "highest"), (ranked[-1], "lowest")] if len(ranked) > 1 else [(name, "only") for name in ranked]


def _verdict(
    verdicts: Mapping[tuple[str, str, str, str], float], world: str, policy: str, source: str, episode: str
) -> dict[str, float]:
    """The probability of success at the last frame; empty if it is not known."""
    value = verdicts.get((world, policy, source, episode))
    return {} if value is None else {"success": value}
