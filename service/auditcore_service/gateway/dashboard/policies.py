"""`/ui/policies`: list, show, advise on and register policies."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.policy_lint import lint_document
from auditcore_service.gateway.dashboard.audit_form import checked_document
from auditcore_service.gateway.dashboard.page_headers import PAGE_HEADERS
from auditcore_service.gateway.dashboard.page_route import ANSWERED, SEE_OTHER, PageRoute, problem_and_headers
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.request_bodies import read_json
from auditcore_service.gateway.routes.principals import PolicyWriter, Reader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread

router = APIRouter(prefix="/ui/policies", route_class=PageRoute, include_in_schema=False)

ON_A_PAGE: Final = 50

EXAMPLE: Final = """{
  "name": "scans",
  "version": "1.0.0",
  "description": "Release gate of the scan classifier.",
  "conditions": [
    {
      "id": "faithful",
      "check": "deletion",
      "explainer": "grad_cam",
      "metric": "inter_model_deletion",
      "at_least": 0.05,
      "rationale": "The model in production has 0.12, and a random order of cells has 0."
    }
  ]
}"""


@router.get("")
def show(
    request: Request, service: ServiceDep, principal: Reader, cursor: Annotated[str, Query(max_length=512)] = ""
) -> Response:
    """Policies, newest first, those of auditcore last."""
    found, following = service.policies.page(principal, cursor=cursor or None, limit=ON_A_PAGE)
    return page(request, "policies.html", policies=found, following=following)


@router.get("/new")
def form(request: Request, _principal: PolicyWriter) -> Response:
    """The form in which a policy is written."""
    return page(request, "new_policy.html", text=EXAMPLE, mistakes=(), findings=None)


@router.post("/new")
async def send(request: Request, service: ServiceDep, threads: ThreadsDep, principal: PolicyWriter) -> Response:
    """Advise on a policy, or store it."""
    async with request.form(max_files=0, max_fields=4) as sent:
        text, action = str(sent.get("document", "")), str(sent.get("action", "lint"))
    try:
        document = checked_document(PolicyDocument, read_json(text.encode()))
        if action == "store":
            stored, _ = await in_thread(threads.slow, service.policies.store, principal, document)
            return RedirectResponse(f"/ui/policies/{quote(stored.digest)}", SEE_OTHER, headers=PAGE_HEADERS)
    except json.JSONDecodeError as error:
        mistakes = [("", f"this is not JSON: {error.msg} at character {error.pos}")]
        return page(
            request,
            "new_policy.html",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            text=text,
            mistakes=mistakes,
            findings=None,
        )
    except ANSWERED as error:
        problem, _ = problem_and_headers(request, error)
        mistakes = [(one.pointer, one.detail) for one in problem.errors] or [("", problem.detail)]
        return page(request, "new_policy.html", status=problem.status, text=text, mistakes=mistakes, findings=None)
    return page(request, "new_policy.html", text=text, mistakes=(), findings=lint_document(document))


@router.get("/{reference}")
def one(request: Request, reference: str, service: ServiceDep, principal: Reader) -> Response:
    """A policy with its conditions, and advice on it."""
    digest, content = service.policies.content(principal, reference)
    document = PolicyDocument.model_validate_json(content)
    return page(
        request,
        "policy.html",
        digest=digest,
        document=document,
        findings=lint_document(document),
        text=json.loads(content),
    )
