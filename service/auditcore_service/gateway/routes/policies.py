"""`/v1/policies`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response

from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.policy_lint import lint_document
from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    json_example,
    problem_example,
    problem_responses,
)
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.immutable import IfNoneMatch, etag_of_digest, immutable
from auditcore_service.gateway.routes.paging import CURSOR_EXAMPLE, INVALID_CURSOR, link_next_page
from auditcore_service.gateway.routes.principals import PolicyWriter, Reader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import PolicyLinks, PolicyPage, PolicySummary, PostedPolicy
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.policies import ListedPolicy

router = APIRouter(prefix="/v1/policies", tags=["policies"], route_class=CheckedBodies)

POLICY_EXAMPLE = {
    "name": "scans",
    "version": "1.0.0",
    "description": "Release gate of the scan classifier, for the explainer that the product shows.",
    "conditions": [
        {
            "id": "faithful",
            "check": "deletion",
            "explainer": "grad_cam",
            "metric": "inter_model_deletion",
            "at_least": 0.05,
            "rationale": "The model in production has 0.12, and a random order of cells has 0.",
        },
        {
            "id": "stable",
            "check": "sweep",
            "explainer": "grad_cam",
            "metric": "s_pearson",
            "variant": "brightness",
            "at_least": 0.8,
            "rationale": "The model in production has 0.97; a map without memory has 0.25.",
        },
    ],
}

_DIGEST = PolicyDocument.model_validate(POLICY_EXAMPLE).digest

_SUMMARY_EXAMPLE = {
    "name": "scans",
    "version": "1.0.0",
    "digest": _DIGEST,
    "description": POLICY_EXAMPLE["description"],
    "conditions": 2,
    "shipped": False,
    "created_at": "2026-11-22T12:00:00.000Z",
    "links": {"self": f"/v1/policies/{_DIGEST}", "named": "/v1/policies/scans@1.0.0"},
}

_EXAMPLES: dict[str, Any] = {"release": {"summary": "Two conditions with their reasons", "value": POLICY_EXAMPLE}}

_POSTED = json_example(
    {"policy": _SUMMARY_EXAMPLE, "findings": []},
    headers={"Location": {"description": "The policy.", "schema": {"type": "string"}}},
    links={"document": {"operationId": "getPolicy", "parameters": {"reference": "$response.body#/policy/digest"}}},
)


@router.post(
    "",
    status_code=201,
    operation_id="storePolicy",
    summary="Store a policy",
    responses={
        200: {"model": PostedPolicy, "description": "The same document was stored before.", **_POSTED},
        201: _POSTED,
        **problem_responses(
            problem_example(
                409,
                "policy_exists",
                "scans@1.0.0 is stored with other content; a version never changes, so choose another version",
                pointer="#/version",
            ),
            CONTENT_TOO_LARGE,
        ),
    },
)
def store(
    document: Annotated[PolicyDocument, Body(openapi_examples=_EXAMPLES)],
    response: Response,
    service: ServiceDep,
    principal: PolicyWriter,
) -> PostedPolicy:
    """Store a policy by content. Requests then name it as `name@version`, or by its digest.

    A version never changes: other content under the same name and version is refused. The answer lists what the policy
    lets pass that it probably should not, such as maps that are stable but not faithful; it is stored anyway.
    """
    stored, new = service.policies.store(principal, document)
    summary = _summary(stored)
    response.status_code = 201 if new else 200
    response.headers["Location"] = summary.links.self
    return PostedPolicy(policy=summary, findings=lint_document(document))


@router.get(
    "",
    operation_id="listPolicies",
    summary="List policies, newest first",
    responses={
        200: json_example({"items": [_SUMMARY_EXAMPLE], "next_cursor": CURSOR_EXAMPLE}),
        **problem_responses(INVALID_CURSOR),
    },
)
def list_page(
    request: Request,
    response: Response,
    service: ServiceDep,
    principal: Reader,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most policies on the page.")] = 20,
) -> PolicyPage:
    """One page; follow `next_cursor`, or the Link header with rel=next. Policies of auditcore are last."""
    policies, following = service.policies.page(principal, cursor=cursor, limit=limit)
    link_next_page(request, response, following)
    return PolicyPage(items=tuple(_summary(policy) for policy in policies), next_cursor=following)


@router.get(
    "/{reference}",
    operation_id="getPolicy",
    summary="A policy",
    response_class=Response,
    responses={
        200: {
            "model": PolicyDocument,
            "description": "The document in canonical JSON; the sha256 of these bytes is its digest.",
            **json_example(PolicyDocument.model_validate(POLICY_EXAMPLE).model_dump(mode="json")),
        },
        304: {"description": "The policy is the one named in If-None-Match."},
        **problem_responses(
            problem_example(
                404,
                "not_found",
                "there is no policy 'scans@2'; name it by its digest or as name@version, and see GET /v1/policies",
            )
        ),
    },
)
def get(
    reference: Annotated[str, Path(description="Its digest, or its name and version, such as `pre-deployment@1.0.0`.")],
    service: ServiceDep,
    principal: Reader,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """It never changes: the ETag is its digest."""
    digest, content = service.policies.content(principal, reference)
    return immutable(
        lambda: content,
        etag=etag_of_digest(digest),
        media_type="application/json",
        if_none_match=if_none_match,
    )


def _summary(policy: ListedPolicy) -> PolicySummary:
    document = policy.document
    return PolicySummary(
        name=document.name,
        version=document.version,
        digest=policy.digest,
        description=document.description,
        conditions=len(document.conditions),
        shipped=policy.created_at is None,
        created_at=None if policy.created_at is None else rfc3339(policy.created_at),
        links=PolicyLinks(
            self=f"{router.prefix}/{policy.digest}",
            named=f"{router.prefix}/{document.label}",
        ),
    )
