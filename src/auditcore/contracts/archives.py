"""What a TorchServe model archive (`.mar`) says of itself."""

from __future__ import annotations

from typing import Literal, final

from pydantic import BaseModel, ConfigDict, Field

from auditcore.contracts.contract import Contract
from auditcore.contracts.models import FactoryModel, Scores, TimmModel, TorchvisionModel, Weights
from auditcore.contracts.outputs import Outputs, Select
from auditcore.contracts.packaged_models import (
    Architecture,
    FactoryArchitecture,
    TimmArchitecture,
    TorchvisionArchitecture,
)
from auditcore.contracts.preprocessing import Preprocessing

MANIFEST = "MAR-INF/MANIFEST.json"
DESCRIPTION = "auditcore.json"
WEIGHTS = "weights.safetensors"
HANDLER = "handler.py"


@final
class ArchiveDescription(Contract):
    """The file `auditcore.json` of archives that `auditcore mar` writes: what their weights belong into.

    Attributes:
        format: Of this description.
    """

    format: Literal[1] = 1
    architecture: Architecture
    outputs: Outputs = "logits"
    select: Select | None = None
    scores: Scores
    preprocessing: Preprocessing


class _Lenient(BaseModel):
    """Manifests of other programs have further fields."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


@final
class ArchivedModel(_Lenient):
    """The part of a manifest that is about the model; files are names inside the archive."""

    name: str = Field(default="", validation_alias="modelName")
    version: str = Field(default="", validation_alias="modelVersion")
    serialized_file: str | None = Field(default=None, validation_alias="serializedFile")
    model_file: str | None = Field(default=None, validation_alias="modelFile")
    handler: str | None = None


@final
class ArchiveManifest(_Lenient):
    """`MAR-INF/MANIFEST.json`."""

    model: ArchivedModel


def architecture_of(model: TorchvisionModel | TimmModel | FactoryModel) -> Architecture:
    """What the weights of a model belong into."""
    match model:
        case TorchvisionModel():
            return TorchvisionArchitecture(
                name=model.name, classes=model.classes, transform_input=model.transform_input
            )
        case TimmModel():
            return TimmArchitecture(name=model.name, classes=model.classes)
        case FactoryModel():
            return FactoryArchitecture(target=model.target, args=model.args, kwargs=model.kwargs)


def filled(
    architecture: Architecture, weights: Weights, *, scores: Scores, preprocessing: Preprocessing
) -> TorchvisionModel | TimmModel | FactoryModel:
    """The model of an architecture with weights."""
    match architecture:
        case TorchvisionArchitecture():
            return TorchvisionModel(
                name=architecture.name,
                classes=architecture.classes,
                transform_input=architecture.transform_input,
                weights=weights,
                scores=scores,
                preprocessing=preprocessing,
            )
        case TimmArchitecture():
            return TimmModel(
                name=architecture.name,
                classes=architecture.classes,
                weights=weights,
                scores=scores,
                preprocessing=preprocessing,
            )
        case FactoryArchitecture():
            return FactoryModel(
                target=architecture.target,
                args=architecture.args,
                kwargs=architecture.kwargs,
                weights=weights,
                scores=scores,
                preprocessing=preprocessing,
            )
