"""The references by which a request names its models: one contract per kind."""

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
"""Models given as an architecture and its weights."""

ServedModel = TorchServeModel | OpenInferenceModel
"""Models behind a server."""

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
