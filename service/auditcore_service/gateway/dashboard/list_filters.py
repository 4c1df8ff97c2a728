"""The filters of lists, as a page takes them: an empty field of a form is no filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, TypeVar, final, get_args
from urllib.parse import urlencode

from fastapi import Depends, Query
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from auditcore.contracts.audit_labels import AuditName
from auditcore.contracts.contract import Sha256
from auditcore.contracts.report import Verdict
from auditcore_service.gateway.routes.following import TagQuery, key_and_value
from auditcore_service.gateway.schemas import AuditStateName
from auditcore_service.store.audit_filters import AuditFilter

Value = TypeVar("Value")

STATES: Final = get_args(AuditStateName)
VERDICTS: Final = get_args(Verdict)

_STATE: Final[TypeAdapter[AuditStateName]] = TypeAdapter(AuditStateName)
_VERDICT: Final[TypeAdapter[Verdict]] = TypeAdapter(Verdict)
_NAME: Final[TypeAdapter[str]] = TypeAdapter(AuditName)
_TAG: Final[TypeAdapter[str]] = TypeAdapter(TagQuery)
_MODEL: Final[TypeAdapter[str]] = TypeAdapter(Sha256)


@final
@dataclass(frozen=True)
class ListFilter:
    """What a list is asked for.

    Attributes:
        wanted: The same for the use case.
        given: Field -> its text, of each that is not empty.
    """

    wanted: AuditFilter
    given: dict[str, str]

    def address(self, path: str, **more: str) -> str:
        """The address of a list with these filters."""
        query = urlencode(self.given | more)
        return f"{path}?{query}" if query else path


def _list_filter(
    name: Annotated[str, Query()] = "",
    model: Annotated[str, Query()] = "",
    verdict: Annotated[str, Query()] = "",
    state: Annotated[str, Query()] = "",
    tag: Annotated[str, Query()] = "",
) -> ListFilter:
    texts = {"name": name, "model": model, "verdict": verdict, "state": state, "tag": tag}
    given = {field: text.strip() for field, text in texts.items() if text.strip()}
    return ListFilter(
        wanted=AuditFilter(
            name=_checked(_NAME, given, "name"),
            model=_checked(_MODEL, given, "model"),
            verdict=_checked(_VERDICT, given, "verdict"),
            state=_checked(_STATE, given, "state"),
            tags=(key_and_value(given["tag"]),) if _checked(_TAG, given, "tag") else (),
        ),
        given=given,
    )


def _checked(kind: TypeAdapter[Value], given: dict[str, str], field: str) -> Value | None:
    if field not in given:
        return None
    try:
        return kind.validate_python(given[field])
    except ValidationError as error:
        found = [{**one, "loc": ("query", field)} for one in error.errors(include_url=False, include_context=False)]
        raise RequestValidationError(found) from error


ListFilterDep = Annotated[ListFilter, Depends(_list_filter)]
