"""Policies with a name and a version, and the ways in which a request gives its policy."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_document import PolicyDigest, PolicyDocument
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shipped_policies import shipped_policies, with_policy
from auditcore.errors import InvalidRequest

CONDITION = {"check": "deletion", "explainer": "grad_cam", "metric": "inter_model_deletion", "at_least": 0.25}
DOCUMENT = {"name": "scans", "version": "1.2.0", "description": "für Scans", "conditions": [CONDITION]}


def request(**changes: Any) -> AuditRequest:
    document = {
        "model": {"kind": "demo"},
        "images": {"kind": "batch", "digest": f"sha256:{0:064}"},
        "plan": {"preset": "quick", "seed": 7},
    }
    return AuditRequest.model_validate(document | changes)


def test_the_digest_is_that_of_the_json_with_every_default() -> None:
    written_out = {
        "name": "scans",
        "version": "1.2.0",
        "description": "für Scans",
        "conditions": [
            {
                **dict.fromkeys(("id", "model", "variant", "at_most")),
                **CONDITION,
                "statistic": "ci",
                "min_images": 8,
                "severity": "fail",
            }
        ],
    }
    text = json.dumps(written_out, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    document = PolicyDocument.model_validate(DOCUMENT)
    assert document.digest == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert document.label == "scans@1.2.0"


def test_a_reason_is_part_of_the_digest() -> None:
    with_reason = DOCUMENT | {"conditions": [CONDITION | {"rationale": "the model in production has 0.3"}]}
    assert PolicyDocument.model_validate(with_reason).digest != PolicyDocument.model_validate(DOCUMENT).digest


def test_requests_from_before_named_policies_keep_their_digests() -> None:
    """Literal digests: computed before a policy could have a name and a condition a rationale."""
    assert digest_of(request()) == "sha256:e3d62e91f990e0a522de5aea75d469146961d58492222852b7ac574cde382105"
    assert (
        digest_of(request(policy=[CONDITION]))
        == "sha256:113bbec33e28a658abb6f0ee036cb3d9c712e37adfc319b9e92e9fe38bc6ffb8"
    )


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ([CONDITION], tuple),
        (DOCUMENT, PolicyDocument),
        ({"digest": f"sha256:{1:064}"}, PolicyDigest),
        ("scans@1.2.0", str),
    ],
)
def test_a_policy_comes_in_four_forms_and_survives_storage(policy: object, kind: type) -> None:
    found = request(policy=policy)
    assert isinstance(found.policy, kind)
    assert AuditRequest.model_validate_json(found.model_dump_json()) == found
    assert AuditRequest.model_validate(found.model_dump()) == found


@pytest.mark.parametrize(
    ("policy", "place", "complaint"),
    [
        ("scans", ("policy", "name"), "should match pattern"),
        ("Scans@1", ("policy", "name"), "should match pattern"),
        ("scans@", ("policy", "name"), "should match pattern"),
        ({"digest": "sha256:1"}, ("policy", "digest", "digest"), "should match pattern"),
        ({"name": "scans", "version": "1"}, ("policy", "document", "conditions"), "Field required"),
        (DOCUMENT | {"conditions": []}, ("policy", "document", "conditions"), "at least 1"),
        (DOCUMENT | {"version": "1 2"}, ("policy", "document", "version"), "should match pattern"),
        ([CONDITION | {"at_most": 1}], ("policy", "conditions", 0), "exactly one"),
        (3, ("policy", "conditions"), "valid tuple"),
    ],
)
def test_a_mistake_in_a_policy_is_found_where_it_is(policy: object, place: tuple[object, ...], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint) as caught:
        request(policy=policy)
    assert caught.value.errors()[0]["loc"] == place


def test_the_conditions_are_those_of_the_list_or_the_document() -> None:
    expected = (Condition.model_validate(CONDITION),)
    assert request().conditions == ()
    assert request(policy=[CONDITION]).conditions == expected
    assert request(policy=DOCUMENT).conditions == expected


@pytest.mark.parametrize("policy", ["scans@1.2.0", {"digest": f"sha256:{1:064}"}])
def test_a_named_policy_has_no_conditions_before_it_is_looked_up(policy: object) -> None:
    with pytest.raises(InvalidRequest, match="has not been looked up"):
        _ = request(policy=policy).conditions


def test_a_named_policy_is_looked_up_once_and_then_part_of_the_request() -> None:
    document = PolicyDocument.model_validate(DOCUMENT)
    asked: list[object] = []

    def find(reference: object) -> PolicyDocument:
        asked.append(reference)
        return document

    pinned = with_policy(request(policy="scans@1.2.0"), find)
    assert pinned.policy == document
    assert with_policy(pinned, find) is pinned
    assert with_policy(request(policy=[CONDITION]), find).policy == (Condition.model_validate(CONDITION),)
    assert asked == ["scans@1.2.0"]


def test_shipped_policies_are_found_by_name_and_by_digest() -> None:
    for document in shipped_policies():
        assert with_policy(request(policy=document.label)).policy == document
        assert with_policy(request(policy={"digest": document.digest})).policy == document


@pytest.mark.parametrize(
    ("policy", "field", "complaint"),
    [
        ("quick-look@9", "policy", r"no policy 'quick-look@9'; use one of: quick-look@1\.0\.0$"),
        ("mine@1", "policy", r"use one of: pre-deployment@1\.0\.0, quick-look@1\.0\.0, regression@1\.0\.0$"),
        ({"digest": f"sha256:{1:064}"}, "policy.digest", "POST /v1/policies"),
    ],
)
def test_an_unknown_policy_is_refused_with_those_that_exist(policy: object, field: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        with_policy(request(policy=policy))
    assert caught.value.field == field


def test_a_stop_rule_may_rest_on_a_named_policy() -> None:
    assert request(policy="quick-look@1.0.0", stop="conclusive").stop is not None
    with pytest.raises(ValidationError, match="needs conditions"):
        request(stop="conclusive")
    changes = request(policy="regression@1.0.0", stop="conclusive", baseline={"report": f"sha256:{1:064}"})
    with pytest.raises(InvalidRequest, match="condition 0 of `policy` is on a change") as caught:
        with_policy(changes)
    assert caught.value.field == "stop"
