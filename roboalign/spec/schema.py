"""JSON Schemas of the spec files: an editor completes keys, shows their meaning and underlines what is wrong."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from roboalign.spec.docs import descriptions
from roboalign.spec.experiment import VARIANTS, adapter

FOLDER = Path("specs/.schema")
"""Where the schemas are kept; each spec file names its own in its first line."""

EXTENDS = {
    "type": "string",
    "description": "Another file of this folder, whose values stand where this one has none.",
}


def schemas() -> dict[str, str]:
    """Every schema as text by file name."""
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
    """Pydantic's generator, with the docstrings below the fields."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of one spec class."""
        result = super().model_schema(schema)
        kind: type[BaseModel] = schema["cls"]
        for field, text in descriptions(kind).items():
            result.get("properties", {}).get(field, {})["description"] = text
        return result


def schema_of(kind: str) -> dict[str, Any]:
    """The schema of a file of this kind."""
    return adapter(kind).json_schema(schema_generator=Documented)


def variant(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a variant's file: with `extends`, and nothing required of a file that has it."""
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
    """The schema of an experiment's file, which has `extends` of its own."""
    schema.pop("required", None)
    return schema


def stale(folder: Path = FOLDER) -> list[str]:
    """Schema files that are missing, out of date, or of no part."""
    wanted = schemas()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write(folder: Path = FOLDER) -> list[str]:
    """Write the schemas that changed, remove those of no part; the names of both."""
    changed, wanted = stale(folder), schemas()
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return changed
