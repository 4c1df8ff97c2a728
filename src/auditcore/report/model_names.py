"""Names of models and architectures for readers."""

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
"""Digits of a structure's digest in a name: enough to distinguish the models of one audit."""


def size_of(model: ReportModel) -> str:
    """Return the size of a model in words."""
    return "black box" if model.parameters is None else f"{model.parameters:,} parameters"


def model_name(reference: ModelReference) -> str:
    """Return a model's name for readers."""
    return _NAMES[type(reference)](reference)


def architecture_of(reference: ModelReference, structure: Sha256 | None) -> str | None:
    """Return the name of a model's architecture, which models that differ only in their weights have in common.

    It consists of the name under which the model was built, if it has one, and a part of the digest of its structure.
    Two models have the same architecture only if both agree.

    Args:
        reference: The model as requested.
        structure: Digest of the names and shapes of its state; None for a black box.

    Returns:
        The name; None for a black box, whose architecture is unknown.
    """
    if structure is None:
        return None
    match reference:
        case DemoModel():
            name = _called(reference.as_factory())
        case TorchvisionModel():
            name = reference.name
        case TimmModel():
            # the part after the dot names the weights: resnet18.a1_in1k and resnet18.tv_in1k are one architecture
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
"""Functions that return a model's name for readers, by the kind of its reference."""
