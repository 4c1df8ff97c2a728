"""The OpenAPI document: what FastAPI derives from the routes, with errors as problem details."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from auditcore_service.gateway.schemas import Problem


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of an app whose routes declare their problems and examples themselves.

    FastAPI adds a 422 of its own form to every operation with parameters, and knows no schema for a response of another
    media type than its default. This service answers every error as problem details (`problems.py`).
    """
    document = FastAPI.openapi(app)
    schemas = document["components"]["schemas"]
    for generated in ("HTTPValidationError", "ValidationError"):
        schemas.pop(generated, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    # pydantic's own schema of any JSON value has none, and generators name their classes after titles
    for name, schema in schemas.items():
        schema.setdefault("title", name)
    for path in (*document["paths"].values(), *document["webhooks"].values()):
        for operation in path.values():
            invalid = operation["responses"].get("422", {})
            if "application/json" in invalid.get("content", {}):
                del operation["responses"]["422"]
    return document
