"""The record of one kind of model reference: everything the project knows of it in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.contract import Contract
from auditcore.contracts.model_reference import ModelReference
from auditcore.sources.resolved_model import Resolution

Reference = TypeVar("Reference", bound=Contract)


def kind_of(reference: Contract) -> str:
    """The kind of a reference, as requests write it."""
    return str(type(reference).model_fields["kind"].default)


def nothing_to_pin(reference: ModelReference, _access: AccessRules) -> Resolution:
    """The reference as it is, for a kind whose contract already says which bytes are audited."""
    return Resolution(reference)


@final
@dataclass(frozen=True)
class ModelSource(Generic[Reference]):
    """What the project knows of one kind of model reference.

    Attributes:
        contract: The kind, a member of the union `ModelReference`.
        check_access: (reference, rules of the operator) -> None; raises UnsafeReference if the reference names
            something that the operator has not allowed. It opens and asks nothing.
        resolve: (reference, rules of the operator) -> the reference with version and digest, looked up once when an
            audit is submitted; `nothing_to_pin` for a kind without either. Runs in the gateway, which has no torch.
        loader: Module with a function `load(reference, source)` that returns a `LoadedModel`. It is named, not
            imported, because it needs torch; the first model of the kind imports it.
        display_name: What a reader of the report calls the model.
        architecture_name: What models have in common that differ only in their weights; the kind, unless the
            reference names an architecture.
    """

    contract: type[Reference]
    check_access: Callable[[Reference, AccessRules], None]
    resolve: Callable[[Reference, AccessRules], Resolution]
    loader: str
    display_name: Callable[[Reference], str]
    architecture_name: Callable[[Reference], str] = kind_of
