"""Which models can be trained, as far as their reference says it."""

from __future__ import annotations

from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel
from auditcore.errors import ModelNotTrainable

TRAINABLE = (TorchvisionModel, TimmModel, FactoryModel, DemoModel)
"""Models given as an architecture and weights, so that other weights of it can be named in an audit."""


def require_trainable(reference: ModelReference) -> None:
    """Refuse a reference whose weights cannot be replaced. It opens nothing and needs no model.

    Raises:
        ModelNotTrainable: It is a server, a program, or a package of a registry.
    """
    if not isinstance(reference, TRAINABLE):
        msg = (
            f"a model of kind {reference.kind!r} cannot be trained here, because its architecture and its weights "
            "cannot be given apart; name it as kind torchvision, timm or factory with its weights"
        )
        raise ModelNotTrainable(msg, field="model.kind")
