"""How fast models train: what tells one speed from another, and a speed that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.training.plan import TrainingPlan

_CHANGES_NO_SPEED: Final = {"seed", "epochs", "schedule", "share", "label_smoothing"}
"""Fields of a plan that say how much is done or what is learned, and not how long a pass takes."""


@final
@dataclass(frozen=True)
class TrainingSpeed:
    """How fast a model trained on a worker.

    Attributes:
        passes_per_s: Expected forward passes per second, of steps with the validation and the audits of their epochs.
        device: Where it was measured.
    """

    passes_per_s: float
    device: str


def training_identity(reference: ModelReference) -> Sha256:
    """What distinguishes models by how fast they train: the architecture and its input, whatever the weights are.

    It is never the identity of a model in an audit, so the speeds of both are never mixed.
    """
    spelled = reference.as_factory() if isinstance(reference, DemoModel) else reference
    return digest_of({"trained": spelled.model_dump(mode="json", exclude={"weights"})})


def training_way_identity(plan: TrainingPlan) -> Sha256:
    """What distinguishes plans by how fast they train a model: method, batch size, optimizer, precision, audits."""
    return digest_of({"trained_by": plan.model_dump(mode="json", exclude=_CHANGES_NO_SPEED)})
