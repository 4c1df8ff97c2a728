"""What the requests of all measures that retrain have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from auditcore.contracts.audit_labels import AuditName, Tags
from auditcore.contracts.contract import Contract
from auditcore.contracts.images import ImagesReference
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.request import HeldOut, TrainingRequest, ValidationImages


class MeasureRequest(Contract):
    """Base of the requests of measures that retrain.

    Attributes:
        model: Architecture and weights: a model of kind `torchvision`, `timm`, `factory` or `demo`. It stays as it is.
        images: Training images; each needs a label.
        validation: Images on which the measure is taken; never trained on.
        budget_seconds: The measure is refused before anything is trained if it would probably take longer.
    """

    model: ModelReference
    images: ImagesReference
    validation: ValidationImages = HeldOut()
    budget_seconds: Annotated[float, Field(gt=0)] | None = None
    name: AuditName | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="What to call the measurement in lists; need not be unique.",
    )
    tags: Tags = Field(
        default_factory=dict,
        exclude_if=lambda tags: not tags,
        description="Key -> value, to find the measurement by, such as the version of the data.",
    )

    @property
    def references(self) -> tuple[tuple[str | None, ModelReference], ...]:
        """The model, in the form that audits of several models have."""
        return ((None, self.model),)

    def training_request(self, plan: TrainingPlan, model: ModelReference) -> TrainingRequest:
        """One training of this measure.

        Args:
            plan: How to train.
            model: What to start from.
        """
        return TrainingRequest(model=model, images=self.images, validation=self.validation, plan=plan)
