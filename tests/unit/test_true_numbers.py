"""Numbers of contracts are numbers, in every contract."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import auditcore.contracts
from auditcore.contracts.contract import Contract
from auditcore.contracts.plan import PresetPlan
from auditcore.contracts.true_numbers import CODE, refuse_disguised
from auditcore_service.gateway.schemas import Body


def every_contract() -> Iterator[type[BaseModel]]:
    for module in pkgutil.walk_packages(auditcore.contracts.__path__, "auditcore.contracts."):
        importlib.import_module(module.name)
    waiting: list[type[BaseModel]] = [Contract, Body]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        yield kind


def numbers(schema: Any, *, checked: bool = False) -> Iterator[bool]:
    """For each integer and float in a schema, whether it is checked."""
    match schema:
        case {"type": "json-or-python"}:
            # any JSON: a boolean there is meant as one
            return
        case {"type": "int" | "float"}:
            yield checked
        case {"type": "function-before", "function": {"function": function}, "schema": inner}:
            yield from numbers(inner, checked=function is refuse_disguised)
        case dict():
            for key, value in schema.items():
                if key not in {"metadata", "serialization", "config", "cls", "default", "expected", "keys_schema"}:
                    yield from numbers(value)
        case list() | tuple():
            for value in schema:
                yield from numbers(value)


def test_every_number_of_every_contract_is_checked() -> None:
    found = {kind: list(numbers(kind.__pydantic_core_schema__)) for kind in every_contract()}
    assert sum(map(len, found.values())) > 300
    assert [kind for kind, checked in found.items() if not all(checked)] == []


@pytest.mark.parametrize("value", [False, True, "7", b"7"])
def test_what_only_looks_like_a_number_is_refused(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        PresetPlan.model_validate({"preset": "quick", "seed": value})
    assert [(one["type"], one["loc"]) for one in caught.value.errors()] == [(CODE, ("seed",))]


def test_keys_of_objects_are_texts_in_json() -> None:
    class Counted(Contract):
        found: dict[int, int]

    assert Counted.model_validate_json('{"found": {"7": 1}}').found == {7: 1}
    with pytest.raises(ValidationError):
        Counted.model_validate_json('{"found": {"7": "1"}}')


def test_json_does_not_tell_an_integer_from_a_float() -> None:
    assert PresetPlan.model_validate({"preset": "quick", "seed": 7.0}).seed == 7
    with pytest.raises(ValidationError):
        PresetPlan.model_validate({"preset": "quick", "seed": 7.5})
