"""How a request names the model under audit: every kind of reference."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel
from auditcore.contracts.packaged_models import (
    HuggingFaceModel,
    MarModel,
    MlflowModel,
    OnnxModel,
    TorchExportModel,
    TorchScriptModel,
)
from auditcore.contracts.server_models import OpenInferenceModel, TorchServeModel

BuiltModel = TorchvisionModel | TimmModel | FactoryModel
"""Spelled out as architecture and weights."""

ServedModel = TorchServeModel | OpenInferenceModel
"""Behind a server."""

ModelReference = Annotated[
    BuiltModel
    | DemoModel
    | MarModel
    | MlflowModel
    | HuggingFaceModel
    | OnnxModel
    | TorchScriptModel
    | TorchExportModel
    | ServedModel,
    Field(discriminator="kind"),
]
"""Every kind of reference. Each has a record in `auditcore.sources.registry`."""
