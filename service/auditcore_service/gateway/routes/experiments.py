"""`/v1/experiments`."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from auditcore.contracts.contract import Sha256
from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.remedies.report import RemedyReport
from auditcore.contracts.retraining.f_fidelity import FFidelityReport
from auditcore.contracts.retraining.idsds import IdsdsReport
from auditcore.contracts.retraining.roar import RoarReport
from auditcore.contracts.studies.report import StudyReport
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
from auditcore_service.gateway.routes.experiment_examples import (
    DELETED_EXPERIMENT,
    EXPERIMENT_BUDGET_ADVICE,
    EXPERIMENT_ESTIMATE_EXAMPLE,
    EXPERIMENT_EXAMPLES,
    EXPERIMENT_FILES_EXAMPLE,
    EXPERIMENT_ID,
    EXPERIMENT_LINKS,
    EXPERIMENT_STATUS_EXAMPLE,
    NO_EXPERIMENT,
    NO_FILE,
    NOT_REPORTED,
    NOTHING_TO_REMEDY,
)
from auditcore_service.gateway.routes.following import (
    RETRY_AFTER_S,
    resume_after,
    stream_events,
    waiting_of,
)
from auditcore_service.gateway.routes.immutable import IfNoneMatch, etag_of_digest, immutable, revalidated
from auditcore_service.gateway.routes.job_filters import JobFilter
from auditcore_service.gateway.routes.paging import CURSOR_EXAMPLE, INVALID_CURSOR, link_next_page
from auditcore_service.gateway.routes.principals import Auditor, Reader, Remover
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.routes.training_examples import NOT_TRAINABLE
from auditcore_service.gateway.schemas import (
    ErrorBody,
    EstimateAnswer,
    ExperimentFileEntry,
    ExperimentFileList,
    ExperimentLinks,
    ExperimentPage,
    ExperimentStatus,
    ProgressBody,
)
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread
from auditcore_service.store.experiment_files import ExperimentFile
from auditcore_service.store.records import Audit
from auditcore_service.store.transitions import TERMINAL
from auditcore_service.timestamps import rfc3339

router = APIRouter(prefix="/v1/experiments", tags=["experiments"], route_class=CheckedBodies)

ExperimentId = Annotated[str, Path(description="From the answer to POST /v1/experiments.")]

AnyReport = StudyReport | RemedyReport | RoarReport | FFidelityReport | IdsdsReport

BYTES = "application/octet-stream"
MEDIA_TYPES = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
"""End of the name of a file -> its media type."""


@router.post(
    "",
    status_code=202,
    operation_id="submitExperiment",
    summary="Submit a study, a remedy, or a measure that retrains",
    responses={
        202: json_example(
            EXPERIMENT_STATUS_EXAMPLE,
            headers={
                "Location": {"description": "The experiment.", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds to wait before asking.", "schema": {"type": "integer"}},
            },
            links=EXPERIMENT_LINKS,
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
            NOTHING_TO_REMEDY,
            problem_example(422, "budget_exceeded", EXPERIMENT_BUDGET_ADVICE, pointer="#/plan"),
            TOO_MANY_REQUESTS,
            QUOTA_OF_AUDITS,
        ),
    },
)
async def submit(
    request: Annotated[ExperimentRequest, Body(openapi_examples=EXPERIMENT_EXAMPLES)],
    response: Response,
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
    idempotency_key: Annotated[
        str | None,
        Header(description="The same key with the same body gives the same experiment, for 24 hours."),
    ] = None,
) -> ExperimentStatus:
    """Check a request, store it and start the experiment. Mistakes that show without the model are refused at once.

    `plan.kind` says what it is. A remedy names its failed audit by `audit`, and works on the images of that audit. The
    answer has an `estimate`, and the budget and the limits of audits hold for experiments too.
    """
    experiment = await in_thread(
        threads.slow, service.experiments.submit, principal, request, idempotency_key=idempotency_key
    )
    response.headers["Location"] = path_of(experiment.id)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return status_of(experiment)


@router.post(
    "/estimate",
    operation_id="estimateExperiment",
    summary="What an experiment would cost",
    responses={
        200: json_example(EXPERIMENT_ESTIMATE_EXAMPLE),
        **problem_responses(CONTENT_TOO_LARGE, UNSAFE_REFERENCE, NOT_TRAINABLE, NOTHING_TO_REMEDY),
    },
)
async def estimate(
    request: Annotated[ExperimentRequest, Body(openapi_examples=EXPERIMENT_EXAMPLES)],
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
) -> EstimateAnswer:
    """Check a request as POST /v1/experiments does, and return its price instead of starting it. Nothing is stored.

    A price above the operator's budget, or above the passes that your tenant may still submit today, is no error:
    `within_budget` is then false.
    """
    quote = await in_thread(threads.slow, service.experiments.estimate, principal, request)
    return EstimateAnswer(estimate=quote.estimate, within_budget=quote.objection is None, advice=quote.objection)


@router.get(
    "",
    operation_id="listExperiments",
    summary="List experiments, newest first",
    responses={
        200: json_example({"items": [EXPERIMENT_STATUS_EXAMPLE], "next_cursor": CURSOR_EXAMPLE}),
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
    limit: Annotated[int, Query(ge=1, le=100, description="Most experiments on the page.")] = 20,
    model: Annotated[
        Sha256 | None,
        Query(description="Only experiments that name this model: the digest of its file."),
    ] = None,
) -> ExperimentPage:
    """One page; follow `next_cursor`, or the Link header with rel=next. Every filter that is given must hold."""
    wanted = replace(filtered, model=model)
    experiments, following = service.experiments.page(principal, cursor=cursor, limit=limit, wanted=wanted)
    link_next_page(request, response, following)
    return ExperimentPage(items=tuple(status_of(one) for one in experiments), next_cursor=following)


@router.get(
    "/{experiment_id}",
    operation_id="getExperiment",
    summary="Where an experiment stands",
    responses={200: json_example(EXPERIMENT_STATUS_EXAMPLE), **problem_responses(NO_EXPERIMENT, DELETED_EXPERIMENT)},
)
def get(experiment_id: ExperimentId, response: Response, service: ServiceDep, principal: Reader) -> ExperimentStatus:
    """200 for an experiment that exists, also if it failed; 410 for one that was deleted."""
    experiment = service.experiments.get(principal, experiment_id)
    if experiment.state not in TERMINAL:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return status_of(experiment)


@router.delete(
    "/{experiment_id}",
    status_code=204,
    operation_id="deleteExperiment",
    summary="Delete an experiment that has ended",
    responses=problem_responses(
        NO_EXPERIMENT,
        DELETED_EXPERIMENT,
        problem_example(
            409,
            "audit_under_way",
            f"experiment {EXPERIMENT_ID} is running; cancel it first with POST /v1/experiments/{EXPERIMENT_ID}/cancel",
        ),
    ),
)
def delete(experiment_id: ExperimentId, service: ServiceDep, principal: Remover) -> None:
    """Report, files and events are gone, and weights too, unless an audit that is kept names them.

    The event log says who deleted it. Bytes that nothing else uses are collected within hours.
    """
    service.deletions.experiment(principal, experiment_id)


@router.post(
    "/{experiment_id}/cancel",
    status_code=202,
    operation_id="cancelExperiment",
    summary="Ask an experiment to stop",
    responses={202: json_example(EXPERIMENT_STATUS_EXAMPLE), **problem_responses(NO_EXPERIMENT, DELETED_EXPERIMENT)},
)
async def cancel(
    experiment_id: ExperimentId, service: ServiceDep, threads: ThreadsDep, principal: Auditor
) -> ExperimentStatus:
    """Best effort. May be repeated; a finished experiment stays as it is. Files of its finished stages are kept."""
    return status_of(await in_thread(threads.urgent, service.experiments.cancel, principal, experiment_id))


@router.get(
    "/{experiment_id}/report",
    operation_id="getExperimentReport",
    summary="The report of a finished experiment",
    response_class=Response,
    responses={
        200: {"model": AnyReport, "description": "The report of its kind: `request.plan.kind` says which."},
        304: {"description": "The report is the one named in If-None-Match."},
        **problem_responses(NO_EXPERIMENT, DELETED_EXPERIMENT, NOT_REPORTED),
    },
)
def report(
    experiment_id: ExperimentId, service: ServiceDep, principal: Reader, if_none_match: IfNoneMatch = None
) -> Response:
    """404 until there is one. It never changes: the ETag is the digest of its bytes."""
    digest = service.experiments.report_digest(principal, experiment_id)
    return immutable(
        lambda: service.experiments.content(principal, digest),
        etag=etag_of_digest(digest),
        media_type="application/json",
        if_none_match=if_none_match,
    )


@router.get(
    "/{experiment_id}/files",
    operation_id="listExperimentFiles",
    summary="Files that an experiment has kept",
    responses={200: json_example(EXPERIMENT_FILES_EXAMPLE), **problem_responses(NO_EXPERIMENT, DELETED_EXPERIMENT)},
)
def files(experiment_id: ExperimentId, service: ServiceDep, principal: Reader) -> ExperimentFileList:
    """Weights, reports of trainings and audits, tables, and checkpoints of what is being done; also while it runs."""
    path = path_of(experiment_id)
    kept = service.experiments.files(principal, experiment_id)
    return ExperimentFileList(items=tuple(_entry(file, path) for file in kept))


@router.get(
    "/{experiment_id}/files/{name:path}",
    operation_id="getExperimentFile",
    summary="One of the files of an experiment",
    response_class=Response,
    responses={
        200: {
            "description": "The bytes. Names that end in `.safetensors` are weights, with the names of the "
            "architecture.",
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in (BYTES, *MEDIA_TYPES.values())
            },
        },
        304: {"description": "The file is the one named in If-None-Match."},
        **problem_responses(NO_EXPERIMENT, NO_FILE, DELETED_EXPERIMENT),
    },
)
def file(
    experiment_id: ExperimentId,
    name: Annotated[str, Path(description="From the list of files; it may hold slashes.")],
    service: ServiceDep,
    principal: Reader,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The ETag is the digest of its bytes. Once the experiment has ended, no file changes any more.

    An audit needs no download of weights: it names them as `blob:` and their digest.
    """
    found = service.experiments.find_file(principal, experiment_id, name)
    ended = service.experiments.get(principal, experiment_id).state in TERMINAL
    answer = immutable if ended else revalidated
    return answer(
        lambda: service.experiments.content(principal, found.digest),
        etag=etag_of_digest(found.digest),
        media_type=next((kind for end, kind in MEDIA_TYPES.items() if name.endswith(end)), BYTES),
        if_none_match=if_none_match,
    )


def _known_experiment(experiment_id: ExperimentId, service: ServiceDep, principal: Reader) -> str:
    """Refuse before the stream begins, while there is still a status to answer with."""
    return service.experiments.get(principal, experiment_id).id


@router.get(
    "/{experiment_id}/events",
    operation_id="followExperiment",
    summary="Progress as server-sent events",
    response_class=EventSourceResponse,
    responses=problem_responses(NO_EXPERIMENT, DELETED_EXPERIMENT),
)
async def events(
    experiment_id: Annotated[str, Depends(_known_experiment)],
    service: ServiceDep,
    principal: Reader,
    after: Annotated[int, Depends(resume_after)],
    news: EventNewsDep,
) -> AsyncIterator[ServerSentEvent]:
    """Ends after the event that ends the experiment."""
    found = functools.partial(service.experiments.events, principal, experiment_id)
    async for event in stream_events(found, news, experiment_id, after):
        yield event


def path_of(experiment_id: str) -> str:
    """Path of an experiment."""
    return f"/v1/experiments/{experiment_id}"


def status_of(experiment: Audit) -> ExperimentStatus:
    """Where an experiment stands, as it is answered."""
    path = path_of(experiment.id)
    failure = experiment.failure
    done = experiment.progress
    return ExperimentStatus(
        id=experiment.id,
        state=experiment.state,
        plan=json.loads(experiment.request)["plan"]["kind"],
        progress=ProgressBody(done=done.done, total=done.total, failed=done.failed),
        fraction=done.fraction,
        images=experiment.images,
        estimate=Estimate.model_validate_json(experiment.estimate or ""),
        name=experiment.name,
        tags=dict(experiment.tags),
        weights=experiment.weights_digest,
        error=None if failure is None else ErrorBody(code=failure.code, message=failure.message, field=failure.field),
        waiting_for=waiting_of(experiment),
        created_at=rfc3339(experiment.created_at),
        started_at=None if experiment.started_at is None else rfc3339(experiment.started_at),
        finished_at=None if experiment.finished_at is None else rfc3339(experiment.finished_at),
        links=ExperimentLinks(
            self=path,
            report=f"{path}/report",
            files=f"{path}/files",
            events=f"{path}/events",
            cancel=f"{path}/cancel",
        ),
    )


def _entry(file: ExperimentFile, path: str) -> ExperimentFileEntry:
    return ExperimentFileEntry(
        name=file.name,
        stage=file.stage,
        digest=file.digest,
        size_bytes=file.size_bytes,
        created_at=rfc3339(file.created_at),
        href=f"{path}/files/{file.name}",
    )
