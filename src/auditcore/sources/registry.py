"""Every kind of model reference and its record. Needs no torch, so a gateway can read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, get_args

from auditcore.contracts.access import AccessRules
from auditcore.contracts.contract import Contract
from auditcore.contracts.model_reference import ModelReference
from auditcore.sources.built_models import DEMO, FACTORY, TIMM, TORCHVISION
from auditcore.sources.model_files import MAR, ONNX, TORCH_EXPORT, TORCHSCRIPT
from auditcore.sources.model_source import ModelSource
from auditcore.sources.registries.huggingface import HUGGINGFACE
from auditcore.sources.registries.mlflow import MLFLOW
from auditcore.sources.servers.open_inference.source import OPEN_INFERENCE
from auditcore.sources.servers.torchserve.source import TORCHSERVE

RECORDS: tuple[ModelSource[Any], ...] = (
    TORCHVISION,
    TIMM,
    FACTORY,
    DEMO,
    MAR,
    MLFLOW,
    HUGGINGFACE,
    ONNX,
    TORCHSCRIPT,
    TORCH_EXPORT,
    TORCHSERVE,
    OPEN_INFERENCE,
)


def by_contract(
    records: Iterable[ModelSource[Any]], kinds: Iterable[type[Contract]]
) -> Mapping[type[Contract], ModelSource[Any]]:
    """The records by the contract they describe.

    Raises:
        TypeError: A kind has no record or two records, or a record describes no kind.
    """
    found: dict[type[Contract], ModelSource[Any]] = {}
    for record in records:
        if record.contract in found:
            msg = f"{record.contract.__name__} has two records in sources/registry.py; remove one"
            raise TypeError(msg)
        found[record.contract] = record
    expected = tuple(kinds)
    for kind in expected:
        if kind not in found:
            msg = f"{kind.__name__} is a kind of ModelReference without a record; add one to sources/registry.py"
            raise TypeError(msg)
    for contract in found:
        if contract not in expected:
            msg = f"{contract.__name__} has a record and is no kind of ModelReference; add it to that union"
            raise TypeError(msg)
    return MappingProxyType(found)


SOURCES = by_contract(RECORDS, get_args(get_args(ModelReference)[0]))
"""The record of each kind of reference. Importing this module fails if a kind has none."""


def source_of(reference: ModelReference) -> ModelSource[Any]:
    """The record of a reference."""
    return SOURCES[type(reference)]


def check_model(reference: ModelReference, access: AccessRules) -> None:
    """Refuse a model reference that names something the operator has not allowed.

    Raises:
        UnsafeReference: The URI, factory, program, registry, repository, server or token file is not allowed; the
            message says how to allow it.
    """
    source_of(reference).check_access(reference, access)
