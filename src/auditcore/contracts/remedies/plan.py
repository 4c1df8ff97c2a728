"""What a remedy may try."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field

from auditcore.contracts.audit_labels import AuditName, Tags
from auditcore.contracts.contract import Contract, Name, Sha256
from auditcore.contracts.images import ImagesReference
from auditcore.contracts.plan import Seed
from auditcore.contracts.training.basic_augmentation import BasicAugmentation
from auditcore.contracts.training.optimizers import LearningRate
from auditcore.contracts.training.request import HeldOut, ValidationImages

RemedyMethod = Literal["edda", "inter_model_deletion_loss"]


@final
class RemedyPlan(Contract):
    """A short search over learning rates and epochs of faithful fine-tuning.

    Every candidate is trained from the audited model. Of those that keep the score on validation images within
    `accuracy_guard`, the one with the best value of the failed metric on validation images is taken. The images of the
    audit take no part in this choice.

    Attributes:
        condition: Id of the failed condition to remedy; the first one that such a training can reach if null.
        method: How to train. EDDA learns from images masked by the explainer (Li et al. 2021); the inter-model deletion
            loss raises the curve of least-relevant-first deletion above that of random deletion (Won et al. 2025).
        learning_rates: Learning rates of Adam that are tried.
        epochs: Numbers of epochs that are tried. One training per learning rate serves all of them.
        accuracy_guard: Largest loss of the validation score that is accepted, such as 0.02 for two of a hundred images.
        batch_size: Most images in one step.
        basic: Flips and crops.
        probe_images: How many validation images measure a candidate, counted from the first.
    """

    kind: Literal["remedy"] = "remedy"
    seed: Seed = 0
    condition: Name | None = None
    method: RemedyMethod = "edda"
    learning_rates: Annotated[tuple[LearningRate, ...], Field(min_length=1, max_length=10)] = (1e-3, 3e-4)
    epochs: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1, max_length=10)] = (3, 6)
    accuracy_guard: float = Field(default=0.02, ge=0, le=1)
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    basic: BasicAugmentation = BasicAugmentation()
    probe_images: Annotated[int, Field(ge=1, le=1000)] = 32


@final
class RemedyRequest(Contract):
    """Labeled images to train on, and what may be tried.

    Attributes:
        audit: Id of the failed audit in the service that gets this request; null where its report is given beside it.
        report: sha256 of the failed report; a service fills it in, so that the request says what was remedied.
        images: Training images; each needs a label.
        validation: Images by which a candidate is chosen.
        plan: What may be tried.
        name: What to call the remedy; need not be unique.
        tags: Key -> value, to find the remedy by.
    """

    audit: str | None = Field(default=None, max_length=64, exclude_if=lambda audit: audit is None)
    report: Sha256 | None = Field(default=None, exclude_if=lambda report: report is None)
    images: ImagesReference
    validation: ValidationImages = HeldOut()
    plan: RemedyPlan = RemedyPlan()
    name: AuditName | None = Field(default=None, exclude_if=lambda name: name is None)
    tags: Tags = Field(default_factory=dict, exclude_if=lambda tags: not tags)
