"""Which models can be trained, as far as their reference says it."""

from __future__ import annotations

from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel, FactoryModel, Scores, TimmModel, TorchvisionModel
from auditcore.contracts.training.methods import TrainingMethod
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


def require_scores(method: TrainingMethod, scores: Scores) -> None:
    """Refuse a method that is not made for models of this kind.

    Args:
        method: The method.
        scores: How logits of the model become probabilities.

    Raises:
        ModelNotTrainable: The method needs the other kind.
    """
    if scores not in method.scores:
        msg = (
            f"method {method.kind!r} needs a model with {' or '.join(sorted(method.scores))} scores, and this one "
            f"has {scores}; take another method, or set `model.scores`"
        )
        raise ModelNotTrainable(msg, field="plan.method.kind")
