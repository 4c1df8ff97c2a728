"""The documents under `openapi/`, as the code has them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from auditcore.contracts.report import report_schema
from auditcore_service.gateway.app import create_app
from auditcore_service.settings import Settings


def documents() -> Mapping[str, str]:
    """File name -> text: the service's OpenAPI document and the report's JSON schema."""
    with tempfile.TemporaryDirectory() as folder:
        # nothing is started and nothing connects: an app needs addresses only to be built
        settings = Settings(data_dir=Path(folder), redis_url=SecretStr("redis://nowhere"))
        openapi = create_app(settings).openapi()
    return {"openapi.json": _text(openapi), "report.schema.json": _text(report_schema())}


def _text(document: Mapping[str, object]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
