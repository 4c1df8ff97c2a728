"""Audits the explanations of image classifiers: how stable they are, and how faithful to the model.

    >>> import auditcore
    >>> request = auditcore.AuditRequest.model_validate_json(plan_json)
    >>> report = auditcore.audit(request)
    >>> report.verdict
    'not_evaluated'

Contracts and errors are here at once and need no torch. What computes (`audit`, `inspect_model`, `load_classifier`,
`EncodedImage`, `report_bytes`) is imported on first use and needs the extra `auditcore[engine]`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.images import ImageBatchReference, ImageUri, ImageUris, InlineImage, InlineImages
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.models import (
    DemoModel,
    FactoryModel,
    Preprocessing,
    TimmModel,
    TorchvisionModel,
    Weights,
)
from auditcore.contracts.packaged_models import (
    HuggingFaceModel,
    MarModel,
    MlflowModel,
    OnnxModel,
    TorchExportModel,
    TorchScriptModel,
)
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.presets import resolve_plan
from auditcore.contracts.report import AuditReport, report_schema
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.server_models import OpenInferenceModel, TorchServeModel
from auditcore.errors import AuditcoreError, InputError

if TYPE_CHECKING:
    from auditcore.auditing import audit, inspect_model
    from auditcore.images.encoded import EncodedImage
    from auditcore.models.loading import load_classifier
    from auditcore.report.serialize import report_bytes

__all__ = [
    "AccessRules",
    "AuditPlan",
    "AuditReport",
    "AuditRequest",
    "AuditcoreError",
    "Condition",
    "DemoModel",
    "EncodedImage",
    "FactoryModel",
    "HuggingFaceModel",
    "ImageBatchReference",
    "ImageUri",
    "ImageUris",
    "InlineImage",
    "InlineImages",
    "InputError",
    "Inspection",
    "InspectionRequest",
    "Limits",
    "MarModel",
    "MlflowModel",
    "OnnxModel",
    "OpenInferenceModel",
    "Preprocessing",
    "PresetPlan",
    "TimmModel",
    "TorchExportModel",
    "TorchScriptModel",
    "TorchServeModel",
    "TorchvisionModel",
    "Weights",
    "audit",
    "inspect_model",
    "load_classifier",
    "report_bytes",
    "report_schema",
    "resolve_plan",
]

_ON_FIRST_USE = {
    "EncodedImage": "auditcore.images.encoded",
    "audit": "auditcore.auditing",
    "inspect_model": "auditcore.auditing",
    "load_classifier": "auditcore.models.loading",
    "report_bytes": "auditcore.report.serialize",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute can be anything
    if name not in _ON_FIRST_USE:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
