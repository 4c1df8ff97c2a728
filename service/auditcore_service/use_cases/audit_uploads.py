"""What an audit uses, as it is listed when the audit is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import Connection

from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.images import ImageBatchReference, ImagesReference
from auditcore.contracts.model_reference import BuiltModel, ModelReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.training.request import TrainingRequest
from auditcore.errors import InvalidRequest
from auditcore_service.store.audit_inputs import AuditInput
from auditcore_service.store.batches import use_batch
from auditcore_service.store.map_files import use_map_file
from auditcore_service.use_cases.deleted_objects import missing_batch, missing_maps


def inputs_of(request: AuditRequest, plan: AuditPlan) -> frozenset[AuditInput]:
    """Everything that an audit names by its digest.

    Args:
        request: The request as it is stored, with pinned models.
        plan: The plan in full.
    """
    return frozenset(_inputs(request, plan))


def training_inputs_of(request: TrainingRequest) -> frozenset[AuditInput]:
    """Everything that a training names by its digest.

    Args:
        request: The request as it is stored, with a pinned model.
    """
    digest = pinned_file(request.model)
    batches = [one.digest for one in (request.images, request.validation) if isinstance(one, ImageBatchReference)]
    model = () if digest is None else (AuditInput("model", digest),)
    return frozenset((*model, *(AuditInput("batch", one) for one in batches)))


def experiment_inputs_of(
    request: ExperimentRequest, *, model: ModelReference | None, audited: ImagesReference | None
) -> frozenset[AuditInput]:
    """Everything that an experiment names by its digest.

    Args:
        request: The request as it is stored, with pinned models.
        model: The model of a remedy, which its request does not name.
        audited: The audited images of a remedy.
    """
    models: list[ModelReference] = [] if model is None else [model]
    sets: list[object] = [request.images, request.validation, audited]
    found: set[AuditInput] = set()
    match request:
        case RemedyRequest(report=report):
            if report is not None:
                found.add(AuditInput("baseline", report))
        case StudyRequest(test=test, plan=plan):
            sets.append(test)
            models += [request.model, *(method.model for method in plan.methods if method.model is not None)]
        case _:
            models.append(request.model)
    found |= {AuditInput("batch", one.digest) for one in sets if isinstance(one, ImageBatchReference)}
    files = (pinned_file(one) for one in models)
    return frozenset(found | {AuditInput("model", digest) for digest in files if digest is not None})


def _inputs(request: AuditRequest, plan: AuditPlan) -> Iterator[AuditInput]:
    for _, reference in request.references:
        digest = pinned_file(reference)
        if digest is not None:
            yield AuditInput("model", digest)
    if isinstance(request.images, ImageBatchReference):
        yield AuditInput("batch", request.images.digest)
    for explainer in plan.explainers:
        if explainer.uploaded_maps is not None:
            yield AuditInput("maps", explainer.uploaded_maps)
    if request.baseline is not None and request.baseline.report is not None:
        yield AuditInput("baseline", request.baseline.report)


def pinned_file(reference: ModelReference) -> str | None:
    """Digest of the file of a model; None for weights that are not pinned, such as random ones."""
    spelled = reference.as_factory() if isinstance(reference, DemoModel) else reference
    if not isinstance(spelled, BuiltModel):
        return spelled.sha256
    uri = spelled.weights.uri
    return spelled.weights.sha256 or (uri.removeprefix("blob:") if uri.startswith("blob:sha256:") else None)


def use_uploads(connection: Connection, inputs: Collection[AuditInput], *, now: float) -> None:
    """Keep the batch and the maps of an audit from being deleted before the transaction ends.

    Raises:
        InvalidRequest: One of them was deleted a moment ago.
    """
    # in one order, so that two transactions never wait for each other
    for used in sorted(inputs):
        if used.kind == "batch" and not use_batch(connection, used.digest, now=now):
            raise InvalidRequest(missing_batch(connection, used.digest).message, field="images.digest")
        if used.kind == "maps" and not use_map_file(connection, used.digest, now=now):
            raise InvalidRequest(missing_maps(connection, used.digest).message, field="plan.explainers")
