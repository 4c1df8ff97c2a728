"""From what a request names to what is audited: a version and a digest, looked up once, when the audit is submitted.

Needs no torch, so that a gateway can do it. What cannot be known here, such as a file that workers alone can read, is
left as it is, and the worker is the judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from auditcore.contracts.access import AccessRules
from auditcore.contracts.contract import Contract
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import FactoryModel, TimmModel, TorchvisionModel
from auditcore.contracts.packaged_models import (
    HuggingFaceModel,
    MarModel,
    MlflowModel,
    OnnxModel,
    TorchExportModel,
    TorchScriptModel,
)
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.server_models import OpenInferenceModel, TorchServeModel
from auditcore.sources.pinning import resolve_file, resolve_weights
from auditcore.sources.registries import huggingface, mlflow
from auditcore.sources.resolved_model import Resolution
from auditcore.sources.servers import open_inference, torchserve

RESOLVERS: dict[type[Contract], Callable[[Any, AccessRules], Resolution]] = {
    TorchvisionModel: resolve_weights,
    TimmModel: resolve_weights,
    FactoryModel: resolve_weights,
    MarModel: resolve_file,
    OnnxModel: resolve_file,
    TorchScriptModel: resolve_file,
    TorchExportModel: resolve_file,
    MlflowModel: mlflow.resolve,
    HuggingFaceModel: huggingface.resolve,
    TorchServeModel: torchserve.resolve,
    OpenInferenceModel: open_inference.resolve,
}
"""What finds out about each kind of reference; the others stay as they are."""


def resolve_model(reference: ModelReference, access: AccessRules) -> Resolution:
    """What a reference stands for now.

    Raises:
        InputError: It is not allowed, or it is certain already that no worker could load it.
    """
    access.check_model(reference)
    resolve = RESOLVERS.get(type(reference))
    return Resolution(reference) if resolve is None else resolve(reference, access)


def resolve_request(request: AuditRequest, access: AccessRules) -> tuple[AuditRequest, tuple[Resolution, ...]]:
    """The same request about models as they are now, and what was found out about each.

    Raises:
        InputError: As `resolve_model`; `field` says which of several models.
    """
    found: list[Resolution] = []
    for position, (name, reference) in enumerate(request.references):
        with blaming_model(name, position):
            found.append(resolve_model(reference, access))
    if request.model is not None:
        return request.model_copy(update={"model": found[0].reference}), tuple(found)
    models = tuple(
        entry.model_copy(update={"model": one.reference}) for entry, one in zip(request.models, found, strict=True)
    )
    return request.model_copy(update={"models": models}), tuple(found)
