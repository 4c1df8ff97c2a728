"""The request that starts a training."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field

from auditcore.contracts.audit_labels import AuditName, Tags
from auditcore.contracts.contract import Contract
from auditcore.contracts.images import ImageBatchReference, ImagesReference, ImageUris, InlineImages, TensorImages
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.training.plan import TrainingPlan


@final
class HeldOut(Contract):
    """Validation images that are taken out of the training images, at random and in the same share of every class.

    Attributes:
        share: Share of each class, rounded; at least one image of it.
    """

    kind: Literal["held_out"] = "held_out"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2


ValidationImages = Annotated[
    ImageBatchReference | ImageUris | InlineImages | TensorImages | HeldOut, Field(discriminator="kind")
]


@final
class TrainingRequest(Contract):
    """A model to train, labeled images, and a plan.

    Attributes:
        model: Architecture and the weights to start from: a model of kind `torchvision`, `timm`, `factory` or `demo`;
            weights `random:SEED` for an untrained one. It stays as it is: the result is a new file of weights.
        images: Training images; each needs a label.
        validation: Images on which accuracy and faithfulness are measured after each epoch; never trained on.
        plan: How to train.
        budget_seconds: No epoch begins that would probably end later, in seconds of training.
    """

    model: ModelReference
    images: ImagesReference
    validation: ValidationImages = HeldOut()
    plan: TrainingPlan
    budget_seconds: Annotated[float, Field(gt=0)] | None = None
    name: AuditName | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="What to call the training in lists; need not be unique.",
    )
    tags: Tags = Field(
        default_factory=dict,
        exclude_if=lambda tags: not tags,
        description="Key -> value, to find the training by, such as the version of the data.",
    )

    @property
    def references(self) -> tuple[tuple[str | None, ModelReference], ...]:
        """The model, in the form that audits of several models have."""
        return ((None, self.model),)
