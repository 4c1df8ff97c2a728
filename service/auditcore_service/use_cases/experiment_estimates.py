"""What an experiment will cost, before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.remedies.plan import RemedyPlan, RemedyRequest
from auditcore.contracts.report import AuditReport
from auditcore.contracts.retraining.roar import RoarRequest
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.training.methods.edda import Edda
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.costs.cost_model import Estimate
from auditcore.costs.retraining import roar_trainings
from auditcore.costs.training_estimate import training_estimate
from auditcore.remedies.failed_conditions import condition_to_remedy, explainer_of


@final
@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images of an experiment.

    Attributes:
        training: To learn from.
        validation: To validate on.
        test: To audit.
    """

    training: int
    validation: int
    test: int


def experiment_estimate(
    request: ExperimentRequest,
    model: ModelReference,
    images: ImageCounts,
    *,
    passes_per_s: float,
    failed: AuditReport | None = None,
) -> Estimate:
    """What an experiment is expected to cost: all its trainings.

    Args:
        request: The experiment.
        model: Its model; of a remedy, that of the failed report.
        images: How many there are.
        passes_per_s: Forward passes per second, assumed of a model that sees images of 224 x 224 pixels.
        failed: The failed report of a remedy.
    """
    trainings = [
        training_estimate(
            plan,
            of or model,
            training=max(1, round(plan.share * images.training)),
            validation=images.validation,
            passes_per_s=passes_per_s,
        )
        for plan, of in _trainings(request, failed)
    ]
    passes, seconds = sum(one.passes for one in trainings), sum(one.seconds for one in trainings)
    return Estimate(
        images=images.training + images.validation + images.test,
        forward_images=sum(one.forward_images for one in trainings),
        backward_images=sum(one.backward_images for one in trainings),
        passes=passes,
        seconds=round(seconds, 2),
        passes_per_s=round(passes / seconds, 3) if seconds > 0 else passes_per_s,
        basis="assumed",
    )


def _trainings(
    request: ExperimentRequest, failed: AuditReport | None
) -> Iterator[tuple[TrainingPlan, ModelReference | None]]:
    """The plan of each training, and its model if that is not the one of the experiment."""
    match request:
        case StudyRequest(plan=plan):
            for method in plan.methods:
                for _ in plan.seeds:
                    yield method.plan, method.model
        case RoarRequest(plan=plan):
            for _ in range(roar_trainings(plan)):
                yield plan.training, None
        case RemedyRequest(plan=plan):
            for _ in range(len(plan.learning_rates) + 1):
                yield _fine_tuning(plan, failed), None
        case _:
            if request.plan.training is not None:
                yield request.plan.training, None


def _fine_tuning(plan: RemedyPlan, failed: AuditReport | None) -> TrainingPlan:
    """A training of a remedy with as many epochs as any has."""
    condition = None if failed is None else condition_to_remedy(failed, plan.condition)
    explainer = None if failed is None or condition is None else explainer_of(failed, condition.explainer)
    method = Edda() if explainer is None else Edda.model_validate({"explainer": explainer})
    return TrainingPlan(epochs=max(plan.epochs), batch_size=plan.batch_size, method=method, basic=plan.basic)
