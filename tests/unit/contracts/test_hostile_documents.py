"""Plans, policies and requests with faults are either read, and then mean one thing, or refused with a place."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.explainers import default_explainers
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.presets import PRESETS, quick_plan
from auditcore.contracts.request import AuditRequest
from documented import REQUEST

PLANS = [
    *(preset.build(0).model_dump(mode="json") for preset in PRESETS.values()),
    AuditPlan(explainers=default_explainers(), checks=quick_plan().checks).model_dump(mode="json"),
]
SHIPPED = [file for file in files("auditcore.policies").iterdir() if file.name.endswith(".json")]
POLICIES = [json.loads(file.read_text()) for file in sorted(SHIPPED, key=lambda file: file.name)]
REQUESTS = [REQUEST | {"images": {"kind": "batch", "digest": f"sha256:{0:064}"}, "policy": POLICIES[0]}]
DOCUMENTS = {"plan": (AuditPlan, PLANS), "policy": (PolicyDocument, POLICIES), "request": (AuditRequest, REQUESTS)}

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "0", "\0", "\ud800", "random", "sweep", "../..", "*" * 50, "[a-", "sha256:" + "0" * 64]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


def places(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of everything inside a document."""
    entries: Iterable[tuple[str | int, Any]] = ()
    if isinstance(document, dict):
        entries = document.items()
    elif isinstance(document, list):
        entries = enumerate(document)
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def faulty(draw: st.DrawFn, documents: list[Any]) -> Any:
    """One of the documents with one to three faults."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        here = document
        for key in path:
            here = here[key]
        match draw(st.sampled_from(["replace", "replace", "remove", "repeat", "add"])):
            case "remove":
                del here[last]
            case "repeat" if isinstance(here, list):
                here.insert(last, copy.deepcopy(here[last]))
            case "add" if isinstance(here, dict):
                here[draw(st.text(max_size=8))] = draw(ODD)
            case _:
                here[last] = draw(ODD)
    return document


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_without_a_fault_are_read(name: str) -> None:
    contract, documents = DOCUMENTS[name]
    for document in documents:
        TypeAdapter(contract).validate_python(document)


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_document_is_read_or_refused_where_it_is_wrong(name: str, data: st.DataObject) -> None:
    contract, documents = DOCUMENTS[name]
    document = data.draw(faulty(documents))
    adapter: TypeAdapter[Any] = TypeAdapter(contract)
    try:
        read = adapter.validate_python(document)
    except ValidationError as refused:
        for mistake in refused.errors(include_url=False, include_context=False):
            assert mistake["msg"].strip()
            # a fault of the whole is told at the root, any other at a place that begins in the document
            assert not mistake["loc"] or isinstance(document, list | dict)
        return
    again = adapter.validate_json(read.model_dump_json())
    assert again == read
    assert digest_of(again) == digest_of(read)
