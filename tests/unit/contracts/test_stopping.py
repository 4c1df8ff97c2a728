"""Stop rules as they are asked for."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.stopping import Conclusive, looks

BODY: dict[str, Any] = {
    "model": {"kind": "demo"},
    "images": {"kind": "batch", "digest": "sha256:" + "0" * 64},
    "plan": {"preset": "quick"},
    "policy": [{"check": "deletion", "explainer": "gradient", "metric": "srg", "at_least": 0}],
}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("conclusive", Conclusive()),
        ({"kind": "conclusive"}, Conclusive()),
        ({"kind": "conclusive", "alpha": 0.01, "first_look": 20}, Conclusive(alpha=0.01, first_look=20)),
    ],
)
def test_a_rule_is_written_by_name_or_in_full(written: object, meant: Conclusive) -> None:
    request = AuditRequest.model_validate(BODY | {"stop": written})
    assert request.stop == meant
    assert AuditRequest.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": [], "stop": "conclusive"}, "add conditions to `policy`"),
        ({"stop": "soon"}, "conclusive"),
        ({"stop": {"alpha": 0}}, "greater than 0"),
        ({"stop": {"alpha": 0.6}}, "less than or equal to 0.5"),
        ({"stop": {"first_look": 0}}, "greater than or equal to 1"),
        ({"stop": {"at": 3}}, "Extra inputs"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AuditRequest.model_validate(BODY | changes)


def test_a_request_without_a_rule_keeps_its_digest() -> None:
    request = AuditRequest.model_validate(BODY)
    assert "stop" not in json.loads(request.model_dump_json())
    assert digest_of(request) == digest_of(AuditRequest.model_validate(BODY | {"stop": None}))
    assert digest_of(request) != digest_of(AuditRequest.model_validate(BODY | {"stop": "conclusive"}))


def test_the_schema_knows_the_short_form() -> None:
    schema = json.dumps(TypeAdapter(AuditRequest).json_schema()["properties"]["stop"])
    assert '"const": "conclusive"' in schema
    assert "Conclusive" in schema


@given(images=st.integers(1, 3000), first=st.integers(1, 100))
def test_looks_end_with_all_images_and_are_never_far_apart(images: int, first: int) -> None:
    found = list(looks(images, first))
    assert found[0] == min(first, images)
    assert found[-1] == images
    for before, after in pairwise(found):
        assert 0 < after - before <= max(first, before / 8)


def test_many_images_are_few_looks() -> None:
    assert list(looks(80, 8)) == [8, 16, 24, 32, 40, 48, 56, 64, 72, 80]
    assert len(list(looks(10_000, 8))) == 52


def test_ranges_of_metrics_are_in_order() -> None:
    for metric in (metric for metrics in METRICS.values() for metric in metrics.values()):
        if metric.lowest is not None and metric.highest is not None:
            assert metric.lowest < metric.highest
        # a share or probability without a declared range could never be decided early
        if metric.unit.startswith(("probability", "share")):
            assert metric.lowest is not None
            assert metric.highest is not None
