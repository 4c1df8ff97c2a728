"""What a finished training gives: weights, how to name them in an audit, and the report."""

from __future__ import annotations

from collections.abc import Sequence

from auditcore.contracts.canonical_json import digest_of, sha256
from auditcore.contracts.contract import Sha256
from auditcore.contracts.model_reference import BuiltModel, ModelReference
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel, Weights
from auditcore.contracts.shards import Cost
from auditcore.contracts.training.report import (
    LeftOutImage,
    Stopped,
    TrainedModel,
    TrainingData,
    TrainingReport,
)
from auditcore.contracts.training.request import TrainingRequest
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.engine.environment import describe_environment
from auditcore.engine.model_records import model_record
from auditcore.engine.pass_meter import peak_memory_bytes
from auditcore.models.classifier import Classifier
from auditcore.models.state_digests import state_digest
from auditcore.training.labeled_images import LabeledImages
from auditcore.training.training_run import TrainingRun


def trained_reference(reference: ModelReference, digest: Sha256, *, uri: str | None = None) -> BuiltModel:
    """How an audit names the model after training.

    Args:
        reference: The model that was trained.
        digest: sha256 of the file of weights.
        uri: Where the file is; `blob:DIGEST`, in the store of the service, if None.

    Raises:
        ModelNotTrainable: The weights of this kind of model cannot be replaced.
    """
    require_trainable(reference)
    weights = Weights(uri=uri or f"blob:{digest}", sha256=digest)
    match reference:
        case DemoModel():
            return reference.as_factory().model_copy(update={"weights": weights})
        case TorchvisionModel():
            # published weights may need another input than random ones; training changes nothing about this
            transforms = reference.transform_input
            if transforms is None and reference.name in {"googlenet", "inception_v3"}:
                transforms = not reference.weights.uri.startswith("random:")
            return reference.model_copy(update={"weights": weights, "transform_input": transforms})
        case TimmModel() | FactoryModel():
            return reference.model_copy(update={"weights": weights})
        case _:
            raise AssertionError(reference.kind)


def make_report(
    training_id: str,
    request: TrainingRequest,
    run: TrainingRun,
    *,
    start: Classifier,
    training: LabeledImages,
    validation: LabeledImages,
    left_out: Sequence[LeftOutImage],
    weights: bytes,
    stopped: Stopped,
    attempts: int = 1,
) -> TrainingReport:
    """The report of a training that has ended.

    Args:
        training_id: Of the training.
        request: With pinned model and images.
        run: The training, at its end.
        start: The model it started from.
        training: Images that were trained on.
        validation: Validation images.
        left_out: Images that could not be used.
        weights: The file of weights.
        stopped: Why it ended.
        attempts: How often computing was started.
    """
    digest, history = sha256(weights), run.history
    record = model_record(start).model_copy(
        update={"digest": state_digest(run.network.module), "trained": True, "signature": None}
    )
    notes = [*start.notes]
    if stopped == "budget":
        notes.append(
            f"training ended after {len(history.epochs)} of {request.plan.epochs} epochs, because another one would "
            f"not have fitted into the budget of {request.budget_seconds:g} s"
        )
    return TrainingReport(
        training_id=training_id,
        request=request,
        plan_digest=digest_of(request.plan),
        start=model_record(start),
        trained=TrainedModel(
            reference=trained_reference(request.model, digest),
            weights=digest,
            size_bytes=len(weights),
            record=record,
        ),
        data=TrainingData(
            training_digest=training.digest,
            validation_digest=validation.digest,
            training_images=len(training),
            validation_images=len(validation),
            training_per_class=training.per_class,
            left_out=tuple(left_out),
        ),
        epochs=history.epochs,
        stopped=stopped,
        cost=Cost(
            forward_images=history.forward_images,
            backward_images=history.backward_images,
            seconds=history.seconds,
            device=str(start.device),
            peak_memory_bytes=peak_memory_bytes(start.device),
        ),
        attempts=attempts,
        notes=tuple(notes),
        environment=describe_environment(start.device),
    )
