"""The schemas of bodies that routes read themselves, in the application's OpenAPI document."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

REFERENCE = "#/components/schemas/{model}"


def body_of(*models: type[BaseModel]) -> dict[str, Any]:
    """Return what an operation adds to the document: its body is any of ``models``."""
    references = [{"$ref": REFERENCE.format(model=model.__name__)} for model in models]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def add_schemas(app: FastAPI, *models: type[BaseModel]) -> None:
    """Add the schemas of ``models``, and of those inside them, to the document of ``app``."""
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation describes
