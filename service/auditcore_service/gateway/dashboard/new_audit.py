"""`/ui/new`: upload images, choose model, plan and policy, ask for the price, submit."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final, final

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse

from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.presets import PRESETS
from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.dashboard.audit_form import (
    KINDS,
    FormMistakes,
    checked_document,
    document_of,
    fields_of,
)
from auditcore_service.gateway.dashboard.commands import curl_of
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS
from auditcore_service.gateway.dashboard.page_route import ANSWERED, SEE_OTHER, PageRoute, problem_and_headers
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.routes.image_batches import ANNOTATION_BYTES
from auditcore_service.gateway.routes.principals import Auditor
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.service import Service
from auditcore_service.gateway.thread_limits import Threads, ThreadsDep, in_thread
from auditcore_service.principals import Principal
from auditcore_service.use_cases.annotations import GivenAnnotations
from auditcore_service.use_cases.image_batches import UploadedFile

router = APIRouter(prefix="/ui/new", route_class=PageRoute, include_in_schema=False)

MOST_FIELDS: Final = 40

POLICIES: Final = 100
"""Policies that the form offers by name; others are named in JSON."""


@final
@dataclass(frozen=True)
class SentForm:
    """The form as it was sent.

    Attributes:
        fields: Name -> text, without spaces around it.
        images: Image files; files without a name, which a browser sends for an empty field, are left out.
    """

    fields: dict[str, str]
    images: tuple[UploadedFile, ...]

    @property
    def action(self) -> str:
        """What its button asks for: `inspect`, `estimate` or `submit`."""
        return self.fields.get("action", "estimate")


async def _sent(request: Request, service: ServiceDep) -> AsyncIterator[SentForm]:
    """Parse the form; asynchronous because its bytes arrive that way."""
    async with request.form(
        max_files=2 * service.settings.batch_images + 2, max_fields=MOST_FIELDS, max_part_size=ANNOTATION_BYTES
    ) as form:
        yield _sorted(form)


def _sorted(form: FormData) -> SentForm:
    files = [value for name, value in form.multi_items() if name == "images" and isinstance(value, UploadFile)]
    named = [file for file in files if file.filename]
    return SentForm(
        fields={name: value.strip() for name, value in form.multi_items() if isinstance(value, str)},
        images=tuple(
            UploadedFile(file.filename or "", file.file, f"images.{position}") for position, file in enumerate(named)
        ),
    )


@router.get("")
def show(
    request: Request,
    service: ServiceDep,
    principal: Auditor,
    like: Annotated[str, Query(alias="from", description="Id of an audit whose request fills the form.")] = "",
) -> Response:
    """The empty form, or one filled with the request of an audit."""
    fields = fields_of(json.loads(service.audits.get(principal, like).request)) if like else {}
    return form_page(request, service, principal, fields, FormMistakes())


@router.post("")
async def send(
    principal: Auditor,  # first, so that nobody else's upload is read
    sent: Annotated[SentForm, Depends(_sent)],
    request: Request,
    service: ServiceDep,
    threads: ThreadsDep,
) -> Response:
    """Store the images, check the request as the API does, and do what the button says."""
    fields, mistakes, status = dict(sent.fields), FormMistakes(), int(HTTPStatus.OK)
    outcome: dict[str, Any] = {}
    try:
        if sent.images:
            fields["batch"] = await _store(service, threads, principal, sent)
        document = document_of(fields, mistakes)
        if not mistakes.by_field:
            if sent.action == "inspect":
                asked = {"model": document["model"], "plan": document["plan"]}
                outcome["inspection"] = await service.inspections.inspect(
                    principal, checked_document(InspectionRequest, asked), threads=threads.slow
                )
            else:
                checked = _checked(document, mistakes)
                if checked is not None and sent.action == "submit":
                    audit = await in_thread(
                        threads.slow,
                        service.audits.submit,
                        principal,
                        checked,
                        idempotency_key=fields.get("key") or None,
                    )
                    return RedirectResponse(f"/ui/audits/{audit.id}", SEE_OTHER, headers=PAGE_HEADERS)
                if checked is not None:
                    outcome["quote"] = await in_thread(threads.slow, service.audits.estimate, principal, checked)
    except ANSWERED as error:
        problem, _ = problem_and_headers(request, error)
        status = problem.status
        mistakes.add_problems(fields, problem.errors)
        if not problem.errors:
            mistakes.add("", problem.detail)
    if mistakes.by_field and status == HTTPStatus.OK:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    return await in_thread(
        threads.urgent, form_page, request, service, principal, fields, mistakes, status=status, **outcome
    )


@router.post("/request")
async def equivalent(_principal: Auditor, sent: Annotated[SentForm, Depends(_sent)], request: Request) -> Response:
    """The part of the page that shows what the API would be sent, for a script that keeps it up to date."""
    document = document_of(sent.fields, FormMistakes())
    return page(request, "equivalent.html", document=document, command=curl_of(document, request))


def form_page(
    request: Request,
    service: Service,
    principal: Principal,
    fields: dict[str, str],
    mistakes: FormMistakes,
    *,
    status: int = HTTPStatus.OK,
    **outcome: Any,  # noqa: ANN401 - what was found, for the template
) -> Response:
    """The form with what is in it, what is wrong with it, and what was found."""
    document = document_of(fields, FormMistakes())
    policies, _ = service.policies.page(principal, cursor=None, limit=POLICIES)
    batch = fields.get("batch")
    return page(
        request,
        "new_audit.html",
        status=status,
        fields={"model_kind": "demo", "plan": "quick", "key": str(uuid.uuid4())} | fields,
        mistakes=mistakes.by_field,
        kinds=KINDS,
        presets=PRESETS,
        policies=[one.document.label for one in policies],
        document=document,
        command=curl_of(document, request),
        stored=batch,
        **({"inspection": None, "quote": None} | outcome),
    )


async def _store(service: Service, threads: Threads, principal: Principal, sent: SentForm) -> str:
    stored = await in_thread(
        threads.slow,
        service.batches.store,
        principal,
        sent.images,
        archive=None,
        annotations=GivenAnnotations(
            labels=sent.fields.get("labels") or None, classes=sent.fields.get("classes") or None
        ),
    )
    return stored.digest


def _checked(document: dict[str, Any], mistakes: FormMistakes) -> AuditRequest | None:
    if "images" not in document:
        mistakes.add("images", "choose image files, or give the digest of a batch that is stored")
        return None
    return checked_document(AuditRequest, document)
