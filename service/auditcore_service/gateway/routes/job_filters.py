"""The query parameters by which audits, trainings and experiments are listed alike."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from pydantic import AwareDatetime

from auditcore.contracts.audit_labels import AuditName
from auditcore_service.gateway.routes.following import TagQuery, key_and_value
from auditcore_service.gateway.schemas import AuditStateName
from auditcore_service.store.audit_filters import AuditFilter


def _filter_of(
    state: Annotated[AuditStateName | None, Query(description="Only those in this state.")] = None,
    name: Annotated[AuditName | None, Query(description="Only those of this name.")] = None,
    tag: Annotated[
        list[TagQuery] | None,
        Query(max_length=32, description="`key:value`. Repeatable; only those that have all of these tags."),
    ] = None,
    created_after: Annotated[
        AwareDatetime | None,
        Query(description="Only those submitted at this time or later, RFC 3339. In an address, `+` is `%2B`."),
    ] = None,
    created_before: Annotated[
        AwareDatetime | None, Query(description="Only those submitted before this time, RFC 3339.")
    ] = None,
) -> AuditFilter:
    return AuditFilter(
        state=state,
        name=name,
        tags=tuple(key_and_value(one) for one in tag or ()),
        created_after=None if created_after is None else created_after.timestamp(),
        created_before=None if created_before is None else created_before.timestamp(),
    )


JobFilter = Annotated[AuditFilter, Depends(_filter_of)]
"""What a list is asked for; every filter that is given must hold."""
