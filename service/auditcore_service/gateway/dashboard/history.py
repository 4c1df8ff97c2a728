"""`/ui/history`: a metric over the audits of versions of a model."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, final

from fastapi import APIRouter, Query, Request, Response

from auditcore_service.gateway.dashboard.model_families import families_of
from auditcore_service.gateway.dashboard.page_route import PageRoute
from auditcore_service.gateway.dashboard.pages import page
from auditcore_service.gateway.dashboard.report_digests import (
    Reading,
    ReportDigest,
    ReportDigests,
    ReportDigestsDep,
    SeriesKey,
)
from auditcore_service.gateway.routes.following import key_and_value
from auditcore_service.gateway.routes.principals import Reader
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.principals import Principal
from auditcore_service.store.audit_filters import AuditFilter
from auditcore_service.store.records import Audit
from auditcore_service.use_cases.audits import Audits

router = APIRouter(prefix="/ui/history", route_class=PageRoute, include_in_schema=False)

MOST_SEARCHED: Final = 500
"""Newest finished audits that are looked through for models."""

MOST_SHOWN: Final = 60
"""Newest audits of a model that are drawn."""

_PAGE: Final = 100

MODEL_TAG: Final = "model:"
"""Beginning of the tags that the page offers by themselves."""


@final
@dataclass(frozen=True)
class Point:
    """One audit in the history.

    Attributes:
        audit: As stored.
        reading: The number.
    """

    audit: Audit
    reading: Reading


@router.get("")
def show(
    request: Request,
    service: ServiceDep,
    principal: Reader,
    digests: ReportDigestsDep,
    model: Annotated[str, Query(max_length=600)] = "",
    tag: Annotated[str, Query(max_length=264)] = "",
    series: Annotated[str, Query(max_length=600)] = "",
) -> Response:
    """Audits with one tag, or of one family of models: the newest ones, oldest first."""
    finished = _finished(service.audits, principal)
    families = Counter(family for audit in finished for family in families_of(json.loads(audit.request)))
    tags = Counter(
        f"{key}:{value}" for audit in finished for key, value in audit.tags if f"{key}:".startswith(MODEL_TAG)
    )
    if not (model or tag) and (families or tags):
        tag = next(iter(tags), "")
        model = "" if tag else next(iter(families))
    shown = _chosen(finished, model=model, tag=tag)
    found = _readings(service.audits, principal, digests, shown)
    choices = list(dict.fromkeys(key for _, one in found for key in one.readings))
    chosen = next((key for key in choices if _name(key) == series), _first(found, choices))
    return page(
        request,
        "history.html",
        families=families,
        tags=tags,
        model=model,
        tag=tag,
        choices=[(_name(key), " · ".join(part for part in key if part)) for key in choices],
        chosen=None if chosen is None else _name(chosen),
        title=None if chosen is None else " · ".join(part for part in chosen if part),
        better=None if chosen is None else next(one.directions[chosen] for _, one in found if chosen in one.directions),
        points=[] if chosen is None else _points(found, chosen),
        most=MOST_SHOWN,
        address=str(request.base_url).rstrip("/"),
    )


def _finished(audits: Audits, principal: Principal) -> list[Audit]:
    """The newest finished audits, newest first."""
    found: list[Audit] = []
    cursor = None
    while len(found) < MOST_SEARCHED:
        page_of_audits, cursor = audits.page(
            principal, cursor=cursor, limit=_PAGE, wanted=AuditFilter(state="succeeded")
        )
        found.extend(page_of_audits)
        if cursor is None:
            break
    return found


def _chosen(finished: Sequence[Audit], *, model: str, tag: str) -> list[Audit]:
    """The audits of a family of models, or with a tag; oldest first."""
    if tag:
        chosen = [audit for audit in finished if key_and_value(tag) in audit.tags]
    else:
        chosen = [audit for audit in finished if model in families_of(json.loads(audit.request))]
    return chosen[:MOST_SHOWN][::-1]


def _readings(
    audits: Audits, principal: Principal, digests: ReportDigests, shown: Sequence[Audit]
) -> list[tuple[Audit, ReportDigest]]:
    return [
        (
            audit,
            digests.of(
                principal.tenant,
                audit.report_digest,
                functools.partial(audits.report, principal, audit.id),
            ),
        )
        for audit in shown
        if audit.report_digest is not None
    ]


def _first(found: Sequence[tuple[Audit, ReportDigest]], choices: Sequence[SeriesKey]) -> SeriesKey | None:
    """What is shown if nothing is chosen: a number that a policy judges, if there is one."""
    judged = {key for _, one in found for key, readings in one.readings.items() if any(r.limits for r in readings)}
    return next((key for key in choices if key in judged), choices[0] if choices else None)


def _points(found: Sequence[tuple[Audit, ReportDigest]], chosen: SeriesKey) -> list[Point]:
    return [Point(audit, reading) for audit, one in found for reading in one.readings.get(chosen, ())]


def _name(key: SeriesKey) -> str:
    """A series in an address; no name has a bar."""
    return "|".join(key)
