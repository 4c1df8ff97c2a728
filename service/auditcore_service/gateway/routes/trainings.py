"""`/v1/trainings`."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from auditcore.contracts.contract import Sha256
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore.costs.cost_model import Estimate
from auditcore_service.gateway.event_news import EventNewsDep
from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    QUOTA_OF_AUDITS,
    TOO_MANY_REQUESTS,
    UNSAFE_REFERENCE,
    json_example,
    problem_example,
    problem_responses,
)
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.following import (
    RETRY_AFTER_S,
    resume_after,
    stream_events,
    waiting_of,
)
from auditcore_service.gateway.routes.immutable import IfNoneMatch, etag_of_digest, immutable
from auditcore_service.gateway.routes.job_filters import JobFilter
from auditcore_service.gateway.routes.paging import CURSOR_EXAMPLE, INVALID_CURSOR, link_next_page
from auditcore_service.gateway.routes.principals import Auditor, Reader, Remover
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.routes.training_examples import (
    DELETED_TRAINING,
    NO_TRAINING,
    NOT_TRAINABLE,
    NOT_TRAINED,
    TRAIN_EXAMPLES,
    TRAINING_BUDGET_ADVICE,
    TRAINING_ID,
    TRAINING_LINKS,
    TRAINING_STATUS_EXAMPLE,
)
from auditcore_service.gateway.schemas import (
    ErrorBody,
    EstimateAnswer,
    ProgressBody,
    TrainingLinks,
    TrainingPage,
    TrainingStatus,
)
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread
from auditcore_service.store.records import Audit
from auditcore_service.store.transitions import TERMINAL
from auditcore_service.timestamps import rfc3339

router = APIRouter(prefix="/v1/trainings", tags=["trainings"], route_class=CheckedBodies)

WEIGHTS_TYPE = "application/octet-stream"

TrainingId = Annotated[str, Path(description="From the answer to POST /v1/trainings.")]


@router.post(
    "",
    status_code=202,
    operation_id="submitTraining",
    summary="Submit a training",
    responses={
        202: json_example(
            TRAINING_STATUS_EXAMPLE,
            headers={
                "Location": {"description": "The training.", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds to wait before asking.", "schema": {"type": "integer"}},
            },
            links=TRAINING_LINKS,
        ),
        **problem_responses(
            problem_example(
                400,
                "invalid_idempotency_key",
                "an Idempotency-Key is 1 to 255 printable ASCII characters, such as a UUID",
            ),
            problem_example(
                409,
                "request_in_flight",
                "the first request with this Idempotency-Key is still being answered; try again in a moment",
            ),
            CONTENT_TOO_LARGE,
            UNSAFE_REFERENCE,
            NOT_TRAINABLE,
            problem_example(422, "budget_exceeded", TRAINING_BUDGET_ADVICE, pointer="#/plan"),
            TOO_MANY_REQUESTS,
            QUOTA_OF_AUDITS,
        ),
    },
)
async def submit(
    request: Annotated[TrainingRequest, Body(openapi_examples=TRAIN_EXAMPLES)],
    response: Response,
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
    idempotency_key: Annotated[
        str | None,
        Header(description="The same key with the same body gives the same training, for 24 hours."),
    ] = None,
) -> TrainingStatus:
    """Check a request, store it and start the training. Mistakes that show without the model are refused at once.

    Every image needs a label. The result is a new file of weights; the model that the request names stays as it is.
    The answer has an `estimate`, and the budget and the limits of audits hold for trainings too.
    """
    training = await in_thread(
        threads.slow, service.trainings.submit, principal, request, idempotency_key=idempotency_key
    )
    response.headers["Location"] = path_of(training.id)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return status_of(training)


@router.post(
    "/estimate",
    operation_id="estimateTraining",
    summary="What a training would cost",
    responses={
        200: json_example(
            {
                "estimate": TRAINING_STATUS_EXAMPLE["estimate"],
                "within_budget": False,
                "advice": TRAINING_BUDGET_ADVICE,
            }
        ),
        **problem_responses(CONTENT_TOO_LARGE, UNSAFE_REFERENCE, NOT_TRAINABLE),
    },
)
async def estimate(
    request: Annotated[TrainingRequest, Body(openapi_examples=TRAIN_EXAMPLES)],
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
) -> EstimateAnswer:
    """Check a request as POST /v1/trainings does, and return its price instead of starting it. Nothing is stored.

    A price above the operator's budget, or above the passes that your tenant may still submit today, is no error:
    `within_budget` is then false. `basis` is `measured` once a worker has trained this architecture.
    """
    quote = await in_thread(threads.slow, service.trainings.estimate, principal, request)
    return EstimateAnswer(estimate=quote.estimate, within_budget=quote.objection is None, advice=quote.objection)


@router.get(
    "",
    operation_id="listTrainings",
    summary="List trainings, newest first",
    responses={
        200: json_example({"items": [TRAINING_STATUS_EXAMPLE], "next_cursor": CURSOR_EXAMPLE}),
        **problem_responses(INVALID_CURSOR),
    },
)
def list_page(
    request: Request,
    response: Response,
    service: ServiceDep,
    principal: Reader,
    filtered: JobFilter,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most trainings on the page.")] = 20,
    model: Annotated[
        Sha256 | None,
        Query(description="Only trainings that start from this model: the digest of its file, or of its weights."),
    ] = None,
) -> TrainingPage:
    """One page; follow `next_cursor`, or the Link header with rel=next. Every filter that is given must hold."""
    wanted = replace(filtered, model=model)
    trainings, following = service.trainings.page(principal, cursor=cursor, limit=limit, wanted=wanted)
    link_next_page(request, response, following)
    return TrainingPage(items=tuple(status_of(training) for training in trainings), next_cursor=following)


@router.get(
    "/{training_id}",
    operation_id="getTraining",
    summary="Where a training stands",
    responses={200: json_example(TRAINING_STATUS_EXAMPLE), **problem_responses(NO_TRAINING, DELETED_TRAINING)},
)
def get(training_id: TrainingId, response: Response, service: ServiceDep, principal: Reader) -> TrainingStatus:
    """200 for a training that exists, also if it failed; 410 for one that was deleted."""
    training = service.trainings.get(principal, training_id)
    if training.state not in TERMINAL:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return status_of(training)


@router.delete(
    "/{training_id}",
    status_code=204,
    operation_id="deleteTraining",
    summary="Delete a training that has ended",
    responses=problem_responses(
        NO_TRAINING,
        DELETED_TRAINING,
        problem_example(
            409,
            "audit_under_way",
            f"training {TRAINING_ID} is running; cancel it first with POST /v1/trainings/{TRAINING_ID}/cancel",
        ),
    ),
)
def delete(training_id: TrainingId, service: ServiceDep, principal: Remover) -> None:
    """Report and events are gone, and the weights too, unless an audit that is kept names them. Its evidence stays.

    The event log says who deleted it. Files that nothing else uses are collected within hours.
    """
    service.deletions.training(principal, training_id)


@router.post(
    "/{training_id}/cancel",
    status_code=202,
    operation_id="cancelTraining",
    summary="Ask a training to stop",
    responses={202: json_example(TRAINING_STATUS_EXAMPLE), **problem_responses(NO_TRAINING, DELETED_TRAINING)},
)
async def cancel(
    training_id: TrainingId, service: ServiceDep, threads: ThreadsDep, principal: Auditor
) -> TrainingStatus:
    """Best effort. May be repeated; a finished training stays as it is. Nothing of a cancelled training is kept."""
    return status_of(await in_thread(threads.urgent, service.trainings.cancel, principal, training_id))


@router.get(
    "/{training_id}/report",
    operation_id="getTrainingReport",
    summary="The report of a finished training",
    response_class=Response,
    responses={
        200: {"model": TrainingReport, "description": "What went in, what came out, and how it went, by epoch."},
        304: {"description": "The report is the one named in If-None-Match."},
        **problem_responses(NO_TRAINING, DELETED_TRAINING, NOT_TRAINED),
    },
)
def report(
    training_id: TrainingId, service: ServiceDep, principal: Reader, if_none_match: IfNoneMatch = None
) -> Response:
    """404 until there is one. It never changes: the ETag is the digest of its bytes.

    `trained.reference` is the trained model as an audit names it.
    """
    digest = service.trainings.report_digest(principal, training_id)
    return immutable(
        lambda: service.trainings.file(principal, digest),
        etag=etag_of_digest(digest),
        media_type="application/json",
        if_none_match=if_none_match,
    )


@router.get(
    "/{training_id}/weights",
    operation_id="getTrainedWeights",
    summary="The weights that a training has made",
    response_class=Response,
    responses={
        200: {
            "description": "A file of safetensors, with the names of the architecture.",
            "content": {WEIGHTS_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "The weights are those named in If-None-Match."},
        **problem_responses(NO_TRAINING, DELETED_TRAINING, NOT_TRAINED),
    },
)
def weights(
    training_id: TrainingId, service: ServiceDep, principal: Reader, if_none_match: IfNoneMatch = None
) -> Response:
    """404 until there are some. They never change: the ETag is their digest.

    An audit needs no download: it names the weights as `blob:` and their digest, as in `trained.reference` of the
    report.
    """
    digest = service.trainings.weights_digest(principal, training_id)
    return immutable(
        lambda: service.trainings.file(principal, digest),
        etag=etag_of_digest(digest),
        media_type=WEIGHTS_TYPE,
        if_none_match=if_none_match,
    )


def _known_training(training_id: TrainingId, service: ServiceDep, principal: Reader) -> str:
    """Refuse before the stream begins, while there is still a status to answer with."""
    return service.trainings.get(principal, training_id).id


@router.get(
    "/{training_id}/events",
    operation_id="followTraining",
    summary="Progress as server-sent events",
    response_class=EventSourceResponse,
    responses=problem_responses(NO_TRAINING, DELETED_TRAINING),
)
async def events(
    training_id: Annotated[str, Depends(_known_training)],
    service: ServiceDep,
    principal: Reader,
    after: Annotated[int, Depends(resume_after)],
    news: EventNewsDep,
) -> AsyncIterator[ServerSentEvent]:
    """Ends after the event that ends the training."""
    found = functools.partial(service.trainings.events, principal, training_id)
    async for event in stream_events(found, news, training_id, after):
        yield event


def path_of(training_id: str) -> str:
    """Path of a training."""
    return f"/v1/trainings/{training_id}"


def status_of(training: Audit) -> TrainingStatus:
    """Where a training stands, as it is answered."""
    path = path_of(training.id)
    failure = training.failure
    done = training.progress
    return TrainingStatus(
        id=training.id,
        state=training.state,
        progress=ProgressBody(done=done.done, total=done.total, failed=done.failed),
        fraction=done.fraction,
        images=training.images,
        estimate=Estimate.model_validate_json(training.estimate or ""),
        name=training.name,
        tags=dict(training.tags),
        weights=training.weights_digest,
        error=None if failure is None else ErrorBody(code=failure.code, message=failure.message, field=failure.field),
        waiting_for=waiting_of(training),
        created_at=rfc3339(training.created_at),
        started_at=None if training.started_at is None else rfc3339(training.started_at),
        finished_at=None if training.finished_at is None else rfc3339(training.finished_at),
        links=TrainingLinks(
            self=path,
            report=f"{path}/report",
            weights=f"{path}/weights",
            events=f"{path}/events",
            cancel=f"{path}/cancel",
            evidence=f"{path}/evidence",
        ),
    )
