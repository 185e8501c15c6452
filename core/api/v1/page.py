"""The API for people: its openapi.json as one page without a script."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, FileSystemLoader

from core.api.v1 import __path__ as here

_TEMPLATES = Environment(loader=FileSystemLoader(list(here)), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def page(openapi: dict[str, Any]) -> str:
    operations: dict[str, list[dict[str, Any]]] = {}
    for path, methods in openapi["paths"].items():
        for method, one in methods.items():
            operations.setdefault(one["tags"][0], []).append({"method": method.upper(), "path": path, **one})
    schemas = openapi["components"]["schemas"]
    return _TEMPLATES.get_template("page.html").render(api=openapi, groups=operations, schemas=schemas, kind=kind, fields=fields)


def fields(content: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a body or an answer: name, kind, whether it must be there, and what it means."""
    schema: dict[str, Any] = next((one.get("schema", {}) for one in content.values()), {})
    schema = schemas[_name(schema)] if "$ref" in schema else schema
    required = schema.get("required", ())
    return [
        {"name": name, "kind": kind(one), "required": name in required, "description": one.get("description", "")}
        for name, one in schema.get("properties", {}).items()
    ]


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return _name(schema)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(json.dumps(one, ensure_ascii=False) for one in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    if schema.get("contentMediaType"):
        return "file"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"{kind(schema['additionalProperties'])} by name"
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(
        str(schema.get("type")), str(schema.get("type", "any"))
    )
