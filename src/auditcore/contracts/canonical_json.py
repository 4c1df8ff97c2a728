"""Canonical JSON: one byte sequence per value, so that digests of requests, plans and manifests can be recomputed."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785
from pydantic import BaseModel

from auditcore.contracts.contract import Sha256


def canonical_json(value: BaseModel | dict[str, Any] | list[Any]) -> bytes:
    """Return RFC 8785 canonical JSON of a contract or of plain JSON data."""
    return rfc8785.dumps(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)


def sha256(data: bytes) -> Sha256:
    """Return the content address of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of(value: BaseModel | dict[str, Any] | list[Any]) -> Sha256:
    """Return the content address of a value: sha256 of its canonical JSON."""
    return sha256(canonical_json(value))
