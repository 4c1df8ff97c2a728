"""From a model reference to a network and to a classifier."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.weights import WeightsSource
from auditcore.sources.fetching import BlobReader
from auditcore.sources.model_signatures import signature_of, verify_signature
from auditcore.sources.model_source import ModelSource
from auditcore.sources.registry import check_model, source_of
from auditcore.sources.resolving import resolve_model


def loader_of(source: ModelSource[Any]) -> Callable[[Any, WeightsSource], LoadedModel]:
    """The function that loads models of one kind; imported here, so that a process pays for the kinds it loads."""
    loader: Callable[[Any, WeightsSource], LoadedModel] = importlib.import_module(source.loader).load
    return loader


def load_model(
    reference: ModelReference,
    *,
    access: AccessRules,
    device: torch.device | str = "cpu",
    blobs: BlobReader | None = None,
) -> LoadedModel:
    """The network that a reference names, and how to feed it; arguments and errors as of `load_classifier`."""
    check_model(reference, access)
    if signature_of(reference) is not None:
        # what the gateway could not read has no digest yet; the loader checks the digest that the signature is for
        reference = resolve_model(reference, access).reference
    signature = verify_signature(reference, access, blobs)
    source = WeightsSource(access, blobs, str(device))
    loaded = loader_of(source_of(reference))(reference, source)
    return replace(loaded, notes=(*source.notes, *loaded.notes), signature=signature)


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
        device: Where the classifier computes.
        blobs: Reader of uploaded weights, for `blob:` URIs.

    Raises:
        InputError: The reference is not allowed, cannot be read, does not fit, or names no classifier;
            `field` says which part of the request to change.
    """
    loaded = load_model(reference, access=access, device=device, blobs=blobs)
    for parameter in loaded.module.parameters():
        # a copy of a TorchScript parameter that requires gradients would belong to a graph
        parameter.requires_grad = False
    return Classifier(
        loaded.module,
        preprocessing=loaded.preprocessing,
        scores=loaded.scores,
        device=device,
        trained=loaded.trained,
        outputs=loaded.outputs,
        select=loaded.select,
        notes=loaded.notes,
        signature=loaded.signature,
        class_names=loaded.class_names,
    )
