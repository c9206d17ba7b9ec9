"""The docstrings below the fields of spec classes, read when they are asked for.

Pydantic can collect them itself (`use_attribute_docstrings`), but parses the module again for each class, which takes
more time than all of `check`.
"""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel


@cache
def descriptions(kind: type[BaseModel]) -> dict[str, str]:
    """The docstring of each field of a spec class, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= of_module(base.__module__).get(base.__qualname__, {})
    return {field: text for field, text in found.items() if field in kind.model_fields}


@cache
def of_module(name: str) -> dict[str, dict[str, str]]:
    """The docstrings below the annotated names of each class of a module."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return {}
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: dict(below(node.body)) for node in tree.body if isinstance(node, ast.ClassDef)}


def below(body: list[Any]) -> list[tuple[str, str]]:
    """Pairs of an annotated name and the string that follows it."""
    pairs = []
    for node, after in pairwise(body):
        match node, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                pairs.append((name, inspect.cleandoc(text)))
    return pairs
