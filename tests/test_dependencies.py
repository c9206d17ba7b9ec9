"""What a plain installation imports: extras are needed only by the features that name them."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboalign.errors import StageError
from roboalign.evaluation.spec import EvaluationSpec
from roboalign.metrics.perceptual import build_perceptual
from roboalign.metrics.perceptual_spec import StLpipsSpec

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted(path for folder in ("roboalign", "stages") for path in (ROOT / folder).rglob("*.py"))
NEEDS_EXTRA = {"roboalign.judge.qwen3_vl", "roboalign.judge.qwen3_vl_init", "roboalign.judge.qwen3_vl_lit"}
"""Modules that import an extra's packages, and are only imported in functions, under `require_extra`."""


def dependency_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~!;, ]", text)[0].lower().replace("_", "-") for text in requirements}


BASE = dependency_names(PROJECT["dependencies"])
PACKAGES = {
    "PIL": "pillow", "google_crc32c": "google-crc32c", "yaml": "pyyaml",
    # What pydantic and fsspec[http] depend on themselves.
    "aiohttp": "fsspec", "pydantic_core": "pydantic", "typing_extensions": "pydantic",
}  # fmt: skip
"""The package of an import with another name."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_at_once(body: list[ast.stmt]) -> Iterator[str]:
    """The modules that statements import when their module is imported, not when a function runs."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Try | ast.With):
            yield from imported_at_once(node.body)


def test_modules_import_what_a_plain_installation_has() -> None:
    unknown = []
    for path in MODULES:
        if module_name(path) in NEEDS_EXTRA:
            continue
        for name in imported_at_once(ast.parse(path.read_text(encoding="utf-8")).body):
            top = name.split(".")[0]
            if top in ("roboalign", "stages"):
                if name in NEEDS_EXTRA:
                    unknown.append(f"{module_name(path)} imports {name}, which needs an extra")
            elif top not in sys.stdlib_module_names and PACKAGES.get(top, top) not in BASE:
                unknown.append(f"{module_name(path)} imports {top}, which is not among the dependencies")
    assert not unknown


def test_the_default_perceptual_distance_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "stlpips-pytorch" in dependency_names(PROJECT["optional-dependencies"]["stlpips"])
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)
    assert build_perceptual(EvaluationSpec().perceptual).name == "1 - HaarPSI"


def test_the_missing_perceptual_distance_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)
    with pytest.raises(StageError, match=r"perceptual\.kind st_lpips needs .*: roboalign\[stlpips\]"):
        build_perceptual(StLpipsSpec(kind="st_lpips"))
