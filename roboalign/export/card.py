"""The model card of an exported part: what it is, how to load it, what was measured, what it was made from."""

from collections.abc import Iterator, Mapping

import yaml

from roboalign.types import Json

TITLES = {
    "tokenizer": "Tokenizer of a robot video world model",
    "world_model": "Robot video world model",
    "rl": "Robot video world model, aligned on a reward",
    "judge": "Judge of robot videos",
    "held_out": "Held-out judge of robot videos",
    "student": "Distilled reward model of robot videos",
}
ROWS = 60
"""Most metrics that the card lists; the rest is in the experiment's own files."""


def card(
    part: str,
    spec: Mapping[str, Json],
    metrics: Mapping[str, Json],
    inputs: Mapping[str, str],
    revision: str,
    digest: str,
    *,
    parameters: int,
    llama: bool,
) -> str:
    """The text of README.md.

    Args:
        part: The part's name.
        spec: Its resolved spec.
        metrics: The content of its metrics file; empty if there is none.
        inputs: MD5 by path of what its stage read.
        revision: The commit of the checkout.
        digest: The hash of all that went in, from the checkpoint.
        parameters: Numbers in the weights' file.
        llama: Whether the weights are in transformers' layout.
    """
    section = "world_model" if part == "rl" else part
    tags = ["robotics", "world-model", "roboalign", *(["llama"] if llama else [])]
    front = {"library_name": "transformers" if llama else "roboalign", "tags": tags}
    rows = list(numbers(metrics))
    shown = [f"| {name} | {value} |" for name, value in rows[:ROWS]]
    if len(rows) > ROWS:
        shown.append(f"| and {len(rows) - ROWS} more | |")
    lines = [
        "---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "",
        f"# {TITLES[part]}", "",
        f"{parameters:,} parameters. Trained and exported with RoboAlign; `config.json` has the resolved spec.", "",
        "## Use", "",
        f"In the spec of a {section.replace('_', ' ')}, with the other fields as below:", "",
        "```yaml", "init: {kind: checkpoint, uri: FOLDER_OR_HF_URI}", "```", "",
        *_transformers(llama),
        *_scoring(part),
        "## Measured", "",
        *(["| metric | value |", "| --- | --- |", *shown] if shown else ["No metrics were at hand."]), "",
        "## Made from", "",
        f"Revision: {revision or 'unknown'}. Hash of specs, inputs and code: {digest or 'unknown'}.", "",
        *(["| input | MD5 |", "| --- | --- |", *(f"| {path} | {md5} |" for path, md5 in sorted(inputs.items())), ""]
          if inputs else []),
        "```yaml", yaml.safe_dump(dict(spec), sort_keys=False).strip(), "```",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def numbers(metrics: Json, name: str = "") -> Iterator[tuple[str, str]]:
    """The numbers in a metrics file by dotted name; an estimate with an interval is one of them."""
    if isinstance(metrics, Mapping):
        if {"mean", "low", "high"} <= metrics.keys():
            yield name, f"{metrics['mean']:.4g} [{metrics['low']:.4g}, {metrics['high']:.4g}]"
            return
        for key, value in metrics.items():
            yield from numbers(value, f"{name}.{key}" if name else str(key))
    elif isinstance(metrics, bool):
        yield name, "yes" if metrics else "no"
    elif isinstance(metrics, int | float):
        yield name, f"{metrics:.6g}"
    elif isinstance(metrics, str):
        yield name, metrics


def _scoring(part: str) -> list[str]:
    """How `score` uses it, if it scores videos."""
    if part not in ("judge", "held_out", "student"):
        return []
    return [
        "Scores with intervals for any folder of videos, without an experiment:", "",
        "```sh", "roboalign score VIDEOS --instructions FILE --judge FOLDER_OR_HF_URI", "```", "",
    ]  # fmt: skip


def _transformers(llama: bool) -> list[str]:
    """How transformers loads it, if it can."""
    if not llama:
        return []
    return [
        "The weights are a LLaMA's over one vocabulary: dynamics codes, context codes, action bins, begin, end.", "",
        "```python", "from transformers import LlamaForCausalLM", 'LlamaForCausalLM.from_pretrained("FOLDER")', "```",
        "",
    ]  # fmt: skip
