"""Names of models and architectures for readers."""

from __future__ import annotations

from auditcore.contracts.contract import Sha256
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.report import ReportModel
from auditcore.sources.registry import source_of

STRUCTURE_DIGITS = 8
"""Digits of a structure's digest in the name of an architecture: enough to tell the models of one audit apart."""


def size_of(model: ReportModel) -> str:
    """The number of parameters; `black box` if they cannot be seen."""
    return "black box" if model.parameters is None else f"{model.parameters:,} parameters"


def model_name(reference: ModelReference) -> str:
    """What a reader calls the model."""
    return source_of(reference).display_name(reference)


def architecture_of(reference: ModelReference, structure: Sha256 | None) -> str | None:
    """Return the name of a model's architecture, which models that differ only in their weights have in common.

    It consists of the name under which the model was built, if it has one, and a part of the digest of its structure.
    Two models have the same architecture only if both agree.

    Args:
        reference: The model as the request names it.
        structure: Digest of the names and shapes of its state; None for a black box.

    Returns:
        None for a black box, whose architecture is unknown.
    """
    if structure is None:
        return None
    name = source_of(reference).architecture_name(reference)
    return f"{name}, structure {structure.removeprefix('sha256:')[:STRUCTURE_DIGITS]}"
