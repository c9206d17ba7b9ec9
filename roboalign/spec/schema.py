"""JSON Schemas of the spec files, with which editors complete keys, show their docstrings and mark errors."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python

from roboalign.spec.docs import descriptions
from roboalign.spec.experiment import VARIANTS, adapter

FOLDER = Path("specs/.schema")
"""The folder of the schemas; each spec file names its schema in its first line."""

EXTENDS = {
    "type": "string",
    "description": "Another file of this folder; this file overrides its values.",
}


def schemas() -> dict[str, str]:
    """The text of every schema by file name."""
    result = {f"{part}.json": variant(schema_of(f"{part}/")) for part in VARIANTS}
    result["experiment.json"] = relax(schema_of("experiments/"))
    result["study.json"] = variant(schema_of("studies/"))
    result["params.json"] = schema_of("params")
    return {
        name: json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1, ensure_ascii=False
        )
        + "\n"
        for name, schema in result.items()
    }


class Documented(GenerateJsonSchema):
    """Pydantic's generator, with field docstrings as descriptions and the defaults that a factory makes."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of one spec class."""
        result = super().model_schema(schema)
        kind: type[BaseModel] = schema["cls"]
        for field, text in descriptions(kind).items():
            result.get("properties", {}).get(field, {})["description"] = text
        for field, info in kind.model_fields.items():
            if info.default_factory is not None:
                value = info.get_default(call_default_factory=True, validated_data={})
                result["properties"][field]["default"] = to_jsonable_python(value)
        return result


def schema_of(kind: str) -> dict[str, Any]:
    """The schema of a file of this kind."""
    return adapter(kind).json_schema(schema_generator=Documented)


def variant(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a variant's file: adds `extends`; a file with `extends` has no required fields."""
    definitions = schema.get("$defs", {})
    roots = [definitions[option["$ref"].rsplit("/", 1)[-1]] for option in schema.get("oneOf", [])] or [schema]
    if "$ref" in schema:
        roots = [definitions[schema["$ref"].rsplit("/", 1)[-1]]]
    for root in roots:
        root["properties"] = {"extends": EXTENDS, **root.get("properties", {})}
        required = root.pop("required", [])
        if required:
            root["anyOf"] = [{"required": required}, {"required": ["extends"]}]
    return schema


def relax(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an experiment's file, without required fields, because it may extend another one."""
    schema.pop("required", None)
    return schema


def stale(folder: Path = FOLDER) -> list[str]:
    """Names of schema files that are missing, out of date, or belong to no part."""
    expected = schemas()
    actual = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))


def write(folder: Path = FOLDER) -> list[str]:
    """Write the schemas that changed and remove those of no part. Returns the names of both."""
    changed, expected = stale(folder), schemas()
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in expected:
            (folder / name).write_text(expected[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return changed
