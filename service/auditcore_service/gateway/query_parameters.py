"""Refuses query parameters that an operation does not have, and repeated ones of which only the last would count."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.params import Query
from fastapi.routing import APIRoute

NEAR: Final = 0.6
"""Least similarity of a misspelt name, as difflib measures it; `limt` and `limit` have 0.89."""


async def known_parameters_only(request: Request) -> None:
    """Refuse a request with a query parameter that its operation does not have. A dependency of every operation.

    Asynchronous, so that it needs no thread.

    Raises:
        RequestValidationError: A parameter is unknown, or is repeated and is not a list.
    """
    if not request.query_params:
        return
    repeatable = _parameters_of(request)
    given: list[str] = [name for name, _ in request.query_params.multi_items()]
    mistakes = [
        {"type": kind, "loc": ("query", name), "msg": message, "input": request.query_params[name]}
        for name in dict.fromkeys(given)
        for kind, message in _mistakes(name, given.count(name), repeatable)
    ]
    if mistakes:
        raise RequestValidationError(mistakes)


def _mistakes(name: str, times: int, repeatable: Mapping[str, bool]) -> list[tuple[str, str]]:
    if name not in repeatable:
        return [("unknown_parameter", _unknown(repeatable, name))]
    if times > 1 and not repeatable[name]:
        return [("repeated_parameter", f"this parameter is given {times} times; give it once")]
    return []


def _unknown(known: Mapping[str, bool], name: str) -> str:
    if not known:
        return "this operation has no query parameters; remove it"
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
    if nearest:
        return f"this operation has no such query parameter; did you mean `{nearest[0]}`?"
    return f"this operation has no such query parameter; it has {', '.join(f'`{one}`' for one in known)}"


def _parameters_of(request: Request) -> Mapping[str, bool]:
    """Name -> whether it may be repeated, of every query parameter of the operation that answers."""
    route = request.scope["route"]
    if not isinstance(route, APIRoute):
        return {}
    declared = (field for field in get_flat_params(route.dependant) if isinstance(field.field_info, Query))
    return {field.alias: _is_list(field.field_info.annotation) for field in declared}


def _is_list(annotation: object) -> bool:
    """Whether a parameter of this type takes several values: a list or a tuple, or a choice that has one."""
    if get_origin(annotation) in {list, tuple}:
        return True
    return any(_is_list(part) for part in get_args(annotation))
