"""Which loader serves which kind of model reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.contract import Contract
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
from auditcore.contracts.server_models import OpenInferenceModel, TorchServeModel
from auditcore.models.classifier import Classifier
from auditcore.models.loaders import (
    demo,
    factory,
    huggingface,
    mar,
    mlflow,
    onnx,
    open_inference,
    timm,
    torch_export,
    torchscript,
    torchserve,
    torchvision,
)
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.weights import WeightsSource
from auditcore.sources.fetching import BlobReader

LOADERS: dict[type[Contract], Callable[[Any, WeightsSource], LoadedModel]] = {
    TorchvisionModel: torchvision.load,
    TimmModel: timm.load,
    FactoryModel: factory.load,
    DemoModel: demo.load,
    MarModel: mar.load,
    MlflowModel: mlflow.load,
    HuggingFaceModel: huggingface.load,
    OnnxModel: onnx.load,
    TorchScriptModel: torchscript.load,
    TorchExportModel: torch_export.load,
    TorchServeModel: torchserve.load,
    OpenInferenceModel: open_inference.load,
}


def load_model(
    reference: ModelReference,
    *,
    access: AccessRules,
    device: torch.device | str = "cpu",
    blobs: BlobReader | None = None,
) -> LoadedModel:
    """The network that a reference names, and how to feed it; arguments and errors as of `load_classifier`."""
    access.check_model(reference)
    return LOADERS[type(reference)](reference, WeightsSource(access, blobs, str(device)))


def load_classifier(
    reference: ModelReference,
    *,
    access: AccessRules,
    device: torch.device | str = "cpu",
    blobs: BlobReader | None = None,
) -> Classifier:
    """The classifier that a reference names, ready on `device`.

    Args:
        reference: What the request asked for.
        access: What the operator allows.
        device: Where it shall compute.
        blobs: Reader of uploaded weights, for `blob:` URIs.

    Raises:
        InputError: The reference is not allowed, cannot be read, does not fit, or names no classifier;
            `field` says which part of the request to mend.
    """
    loaded = load_model(reference, access=access, device=device, blobs=blobs)
    return Classifier(
        loaded.module,
        preprocessing=loaded.preprocessing,
        scores=loaded.scores,
        device=device,
        trained=loaded.trained,
    )
