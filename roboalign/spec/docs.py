"""The docstrings below the fields of spec classes, parsed on first use.

Pydantic can collect them itself (`use_attribute_docstrings`), but it parses the module again for each class, which
takes more time than the whole of `check`.
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
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            texts |= module_docstrings(base.__module__).get(base.__qualname__, {})
    return {field: text for field, text in texts.items() if field in kind.model_fields}


@cache
def module_docstrings(name: str) -> dict[str, dict[str, str]]:
    """The field docstrings of a loaded module, by class and field."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return {}
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: dict(field_docstrings(node.body)) for node in tree.body if isinstance(node, ast.ClassDef)}


def field_docstrings(body: list[Any]) -> list[tuple[str, str]]:
    """Pairs of an annotated name and the string literal that follows it in a class body."""
    pairs = []
    for node, after in pairwise(body):
        match node, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                pairs.append((name, inspect.cleandoc(text)))
    return pairs
