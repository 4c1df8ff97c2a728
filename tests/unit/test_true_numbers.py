"""Numbers of contracts are numbers, in every contract."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import auditcore.contracts
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Contract
from auditcore.contracts.models import FactoryModel
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.presets import PRESETS
from auditcore.contracts.true_numbers import CODE, LARGEST_INTEGER, TOO_LARGE, refuse_disguised, refuse_unsafe
from auditcore_service.gateway.schemas import Body


def every_contract() -> Iterator[type[BaseModel]]:
    for module in pkgutil.walk_packages(auditcore.contracts.__path__, "auditcore.contracts."):
        importlib.import_module(module.name)
    waiting: list[type[BaseModel]] = [Contract, Body]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        yield kind


def numbers(schema: Any, *, checked: bool = False, safe: bool = False) -> Iterator[bool]:
    """For each integer and float in a schema, whether it is checked."""
    match schema:
        case {"type": "json-or-python"}:
            # any JSON: a boolean there is meant as one
            return
        case {"type": "int" | "float"}:
            bounded = {"ge", "le"} <= schema.keys() or {"ge", "lt"} <= schema.keys()
            yield checked and (safe or bounded or schema["type"] == "float")
        case {"type": "function-before", "function": {"function": function}, "schema": inner}:
            yield from numbers(
                inner, checked=checked or function is refuse_disguised, safe=safe or function is refuse_unsafe
            )
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


def plan_with_top_k(top_k: float) -> AuditPlan:
    document = PRESETS["quick"].build(0).model_dump(mode="json")
    (sweep,) = (check for check in document["checks"] if check["kind"] == "sweep")
    sweep["top_k"] = top_k
    return AuditPlan.model_validate(document)


def test_the_largest_integer_has_a_digest() -> None:
    plan = plan_with_top_k(LARGEST_INTEGER)
    assert digest_of(AuditPlan.model_validate_json(plan.model_dump_json())) == digest_of(plan)


@pytest.mark.parametrize("value", [2**53, float(2**53), -(2**53), 2**70, 1e300])
def test_an_integer_that_parsers_of_json_read_differently_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match=str(LARGEST_INTEGER)) as caught:
        plan_with_top_k(value)
    ((code, place),) = [(one["type"], one["loc"]) for one in caught.value.errors()]
    assert (code, place[-1]) == (TOO_LARGE, "top_k")


@pytest.mark.parametrize("value", [2**53, -(2**60), 1e20])
def test_an_argument_is_not_read_as_a_float_because_it_is_too_large(value: float) -> None:
    with pytest.raises(ValidationError, match="integers must lie between") as caught:
        FactoryModel.model_validate({"target": "a:b", "kwargs": {"classes": value}})
    assert [one["loc"] for one in caught.value.errors() if one["type"] == TOO_LARGE] == [("kwargs", "classes")]


def test_a_field_of_floats_takes_a_large_number() -> None:
    class Measured(Contract):
        value: float

    assert Measured(value=1e300).value == 1e300
    assert Measured.model_validate_json('{"value": 100000000000000000000}').value == 1e20
