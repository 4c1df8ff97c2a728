"""Every check that a training passes before it is accepted, and its price. Stores nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from auditcore.contracts.images import labels_of
from auditcore.contracts.training.allowed_explainers import check_training_explainers
from auditcore.contracts.training.class_shares import training_images, training_steps
from auditcore.contracts.training.label_rules import require_different_labels
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.contracts.training.trainable_models import require_scores, require_trainable
from auditcore.costs.cost_model import Estimate
from auditcore.costs.training_estimate import training_estimate
from auditcore.sources.resolving import resolve_model
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.transitions import JobKind
from auditcore_service.use_cases.estimates import measured_training_speed
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.labeled_sets import (
    LabeledSets,
    count_held_out,
    naming,
    require_labels,
    scores_of,
)
from auditcore_service.use_cases.quotas import REDUCE


@final
@dataclass(frozen=True)
class PreparedTrainingRequest:
    """A training that can be carried out, as far as that is known without its images and its model.

    Attributes:
        request: The request, about the model as it is now and files of tensors as they are now.
        images: Number of images, for training and for validation.
        steps: Number of steps if every image can be decoded; there are never more.
        estimate: What it is expected to cost.
        objection: Why the operator's budget forbids this price, and what to reduce; None if it does not.
    """

    request: TrainingRequest
    images: int
    steps: int
    estimate: Estimate
    objection: str | None


@final
class PreparedTrainings:
    """Checks and prices."""

    def __init__(self, settings: Settings, *, database: Database, batches: ImageBatches) -> None:
        self._settings = settings
        self._database = database
        self._sets = LabeledSets(settings, database=database, batches=batches)

    def prepare(self, principal: Principal, request: TrainingRequest) -> PreparedTrainingRequest:
        """Check a training and price it.

        Raises:
            InputError: It cannot be carried out.
            InvalidUpload: An inline image is empty.
        """
        access, plan = self._settings.access, request.plan
        require_trainable(request.model)
        check_training_explainers(plan, access)
        require_scores(plan.method, scores_of(request.model))
        request = request.model_copy(update={"model": resolve_model(request.model, access).reference})
        training = self._sets.find(principal, request, request.images)
        require_labels(training, request.model)
        require_different_labels(labels_of(label) for label in training.labels)
        changes: dict[str, object] = {"images": training.reference}
        held_out = request.validation if isinstance(request.validation, HeldOut) else None
        if isinstance(request.validation, HeldOut):
            images = count_held_out(training, request.validation)
        else:
            with naming("validation"):
                given = self._sets.find(principal, request, request.validation)
                require_labels(given, request.model)
            changes["validation"] = given.reference
            images = len(given)
        learned = training_images(training.labels, plan, held_out=held_out)
        with self._database.reading(principal.tenant) as connection:
            measured = measured_training_speed(connection, request.model, plan)
        estimate = training_estimate(
            plan,
            request.model,
            training=learned,
            validation=images,
            passes_per_s=self._settings.passes_per_s,
            measured=measured,
        )
        return PreparedTrainingRequest(
            request=request.model_copy(update=changes),
            images=len(training) + (0 if held_out is not None else images),
            steps=training_steps(learned, plan),
            estimate=estimate,
            objection=objection_to_training(estimate, self._settings),
        )


def objection_to_training(estimate: Estimate, settings: Settings, *, kind: JobKind = "training") -> str | None:
    """Why the operator's budget forbids a training or an experiment, and what to reduce; None if it does not."""
    limits = (
        (estimate.seconds, settings.budget_s, "seconds of workers"),
        (float(estimate.passes), settings.budget_passes, "forward passes"),
    )
    excesses = [(value, float(budget), unit) for value, budget, unit in limits if budget is not None and value > budget]
    if not excesses:
        return None
    found = " and ".join(f"{value:.10g} {unit}, above the budget of {budget:.10g}" for value, budget, unit in excesses)
    return (
        f"the {kind} is estimated at {found} ({estimate.basis}, {estimate.passes_per_s:g} passes per second); "
        f"{REDUCE[kind]}; the operator can raise AUDIT_BUDGET_S or AUDIT_BUDGET_PASSES"
    )
