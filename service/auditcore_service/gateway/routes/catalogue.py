"""`/v1/catalogue`."""

from __future__ import annotations

from fastapi import APIRouter

from auditcore_service.gateway.catalogue import build_catalogue
from auditcore_service.gateway.routes.principals import Caller
from auditcore_service.gateway.schemas import Catalogue

router = APIRouter(prefix="/v1/catalogue", tags=["catalogue"])


@router.get("", operation_id="getCatalogue", summary="Everything a plan may name")
def get(_principal: Caller) -> Catalogue:
    """Explainers, checks and augmentations with JSON schemas, presets spelled out, metrics with their meaning."""
    return build_catalogue()
