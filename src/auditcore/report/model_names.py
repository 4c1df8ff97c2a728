"""What a reader calls a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel
from auditcore.contracts.packaged_models import (
    HuggingFaceModel,
    MarModel,
    MlflowModel,
    OnnxModel,
    TorchExportModel,
    TorchScriptModel,
)
from auditcore.contracts.report import ReportModel
from auditcore.contracts.server_models import OpenInferenceModel, TorchServeModel

STRUCTURE_DIGITS = 8
"""Of the digest of a structure that a name shows: enough to tell the models of one audit apart."""


def size_of(model: ReportModel) -> str:
    """How large it is, as far as it can be seen."""
    return "black box" if model.parameters is None else f"{model.parameters:,} parameters"


def model_name(reference: ModelReference) -> str:
    """What a reader calls the model."""
    return _NAMES[type(reference)](reference)


def architecture_of(reference: ModelReference, structure: Sha256 | None) -> str | None:
    """What a model has in common with those that differ from it only in their weights.

    The name under which it was built, if it has one, and a part of the digest of its structure, so that two models are
    of one architecture only if they agree in both.

    Args:
        reference: The model as asked for.
        structure: Digest of the names and shapes of its state; None for a black box.

    Returns:
        None for a black box, of which nobody can tell.
    """
    if structure is None:
        return None
    match reference:
        case DemoModel():
            name = _called(reference.as_factory())
        case TorchvisionModel():
            name = reference.name
        case TimmModel():
            # after the dot stand the weights: resnet18.a1_in1k and resnet18.tv_in1k are one architecture
            name = reference.name.split(".", 1)[0]
        case FactoryModel():
            name = _called(reference)
        case _:
            name = reference.kind
    return f"{name}, structure {structure.removeprefix('sha256:')[:STRUCTURE_DIGITS]}"


def _called(target: FactoryModel) -> str:
    arguments = ", ".join(str(argument) for argument in target.args)
    return f"{target.target}({arguments})"


def _registered(model: MlflowModel) -> str:
    return model.uri if model.version is None or "@" not in model.uri else f"{model.uri} (version {model.version})"


def _last_of_path(model: MarModel | OnnxModel | TorchScriptModel | TorchExportModel) -> str:
    return f"{model.uri.rsplit('/', 1)[-1]} ({model.kind})"


def _snapshot(model: HuggingFaceModel) -> str:
    return model.repo or str(model.uri).rstrip("/").rsplit("/", 1)[-1]


def _served(model: TorchServeModel | OpenInferenceModel) -> str:
    return f"{model.name} at {model.url}{'' if model.version is None else f', version {model.version}'}"


_NAMES: dict[type[Contract], Callable[[Any], str]] = {
    DemoModel: lambda _: "EfficientNet-Lite0 (demo)",
    TorchvisionModel: lambda model: f"{model.name} ({model.kind})",
    TimmModel: lambda model: f"{model.name} ({model.kind})",
    FactoryModel: _called,
    MarModel: _last_of_path,
    MlflowModel: _registered,
    HuggingFaceModel: _snapshot,
    OnnxModel: _last_of_path,
    TorchScriptModel: _last_of_path,
    TorchExportModel: _last_of_path,
    TorchServeModel: _served,
    OpenInferenceModel: _served,
}
"""What a reader calls a model, by the kind of its reference."""
