"""Evidence of an audit: it holds as written, and no field of any of its documents can be changed unseen."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import made_up_audits
from auditcore.contracts.canonical_json import canonical_json, digest_of, sha256
from auditcore.contracts.images import ImageBatchReference, ImageUri, ImageUris
from auditcore.contracts.models import DemoModel, Weights
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.evidence.registration import REGISTRATION_TYPE, Registration, register
from auditcore.evidence.signing import PublicKey, SigningKey, payload_of, read_envelope
from auditcore.evidence.statement import EXTENSION, PREDICATE_TYPE, STATEMENT_MEDIA_TYPE, STATEMENT_TYPE, statement
from auditcore.evidence.verification import EvidenceUnreadable, Verification, verify_evidence
from auditcore.report.assemble import assemble
from auditcore.report.serialize import report_bytes

KEY, OTHER_KEY = SigningKey.generate(), SigningKey.generate()
PUBLIC = [KEY.public]

POLICY = (
    Condition(check="deletion", explainer="gradient", metric="srg", at_least=0.05),
    Condition(id="strict", check="deletion", explainer="gradient", metric="srg", at_least=0.9, severity="warn"),
)
IMAGES = 9


def request(policy: tuple[Condition, ...] = POLICY, *, models: int = 1) -> AuditRequest:
    several = tuple(NamedModel(name=name, model=DemoModel()) for name in made_up_audits.NAMES[:models])
    return AuditRequest(
        model=DemoModel() if models == 1 else None, models=several if models > 1 else (),
        images=ImageBatchReference(digest="sha256:" + "0" * 64), plan=made_up_audits.PLAN, policy=policy,
    )  # fmt: skip


def registered(asked: AuditRequest, **changes: Any) -> bytes:
    """The signed registration of a request, with fields changed before it is signed."""
    record = register(
        audit_id="a",
        request=asked,
        plan=made_up_audits.PLAN,
        images=IMAGES,
        files=[made_up_audits.digest(index) for index in range(IMAGES)],
        registered_at="2026-11-27T10:00:00.000Z",
    )
    return KEY.sign(canonical_json(record.model_dump(mode="json") | changes), payload_type=REGISTRATION_TYPE)


def reported(asked: AuditRequest, value: float = 0.2) -> bytes:
    """The report of a request whose model scores near a value."""
    names = [name for name, _ in asked.references]
    used: dict[int, tuple[int, ...] | str] = dict.fromkeys(range(IMAGES), (1,))
    values = [value + 0.001 * index for index in range(IMAGES)]
    shards = [made_up_audits.shard(name, used, made_up_audits.row("gradient", values)) for name in names]
    return report_bytes(
        assemble(
            audit_id="a", request=asked, plan=made_up_audits.PLAN, results=shards, shared={}, attempts=1,
            started_at="2026-11-27T10:00:01.000Z", finished_at="2026-11-27T10:00:09.000Z",
        )
    )  # fmt: skip


def signed(document: dict[str, Any], key: SigningKey = KEY) -> bytes:
    return key.sign(canonical_json(document), payload_type=STATEMENT_MEDIA_TYPE)


@pytest.fixture(scope="module")
def report() -> bytes:
    return reported(request())


@pytest.fixture(scope="module")
def registration() -> bytes:
    return registered(request())


@pytest.fixture(scope="module")
def evidence(report: bytes, registration: bytes) -> bytes:
    return signed(statement(report, registration))


def leaves(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Path of every value that is no object and no list, and of every empty one."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    found = [leaf for name, value in inner for leaf in leaves(value, (*path, name))]
    yield from found or [path]


def changed(document: Any, path: tuple[str | int, ...]) -> Any:
    """The document with another value at a path."""
    other = copy.deepcopy(document)
    at = other
    for name in path[:-1]:
        at = at[name]
    value = at[path[-1]]
    match value:
        case bool():
            at[path[-1]] = not value
        case int() | float():
            at[path[-1]] = value + 1
        case str():
            # the last character but one, so that a name keeps its form
            at[path[-1]] = value[:-1] + ("0" if value.endswith("1") else "1") if value else "1"
        case None:
            at[path[-1]] = "1"
        case dict():
            at[path[-1]] = {"1": 1}
        case list():
            at[path[-1]] = [1]
    return other


def fails(check: Callable[[], Verification]) -> bool:
    """Whether evidence is refused, either as unreadable or by what was found."""
    try:
        return bool(check().findings)
    except EvidenceUnreadable:
        return True


def test_evidence_holds_as_written(report: bytes, evidence: bytes) -> None:
    found = verify_evidence(report, evidence, PUBLIC)
    assert found.findings == ()
    assert found.key_ids == (KEY.public.key_id,)
    assert found.registered_at == "2026-11-27T10:00:00.000Z"
    assert (found.audit_id, found.verdict) == ("a", "warn")


def test_it_is_a_statement_as_the_specification_says(evidence: bytes, report: bytes) -> None:
    envelope = json.loads(evidence)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    stated = json.loads(base64.b64decode(envelope["payload"], validate=True))
    assert stated["_type"] == STATEMENT_TYPE == "https://in-toto.io/Statement/v1"
    assert stated["predicateType"] == PREDICATE_TYPE == "https://in-toto.io/attestation/test-result/v0.1"
    assert stated["subject"] == [{"name": "model", "digest": {"auditcoreModel": "0" * 64}}]
    predicate = stated["predicate"]
    assert {"result", "configuration", "passedTests", "warnedTests", "failedTests"} <= predicate.keys()
    assert (predicate["passedTests"], predicate["warnedTests"], predicate["failedTests"]) == (["0"], ["strict"], [])
    for resource in predicate["configuration"]:
        # a ResourceDescriptor needs a digest, a URI or a content
        assert resource.keys() & {"digest", "uri", "content"}
    extension = predicate[EXTENSION]
    assert extension["report"]["digest"] == sha256(report)
    first = extension["conditions"][0]
    assert (first["comparison"], first["threshold"], first["n"], first["metric"]) == ("at_least", 0.05, 9, "srg")


def test_another_implementation_of_dsse_verifies_the_signature(evidence: bytes) -> None:
    """The protocol by hand: PAE(type, body) = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body."""
    envelope = json.loads(evidence)
    body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    encoded = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body])
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - only this test

    key: Any = load_pem_public_key(KEY.public.pem.encode())
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), encoded)


@pytest.mark.parametrize(
    ("policy", "value", "verdict", "word"),
    [
        (POLICY[:1], 0.2, "pass", "PASSED"),
        (POLICY, 0.2, "warn", "WARNED"),
        (POLICY, 0.01, "fail", "FAILED"),
        ((POLICY[0].model_copy(update={"min_images": 50}),), 0.2, "inconclusive", "FAILED"),
        ((), 0.2, "not_evaluated", "FAILED"),
    ],
)
def test_only_a_verdict_that_passed_is_called_so(
    policy: tuple[Condition, ...], value: float, verdict: str, word: str
) -> None:
    asked = request(policy)
    report, registration = reported(asked, value), registered(asked)
    predicate = statement(report, registration)["predicate"]
    assert AuditReport.model_validate_json(report).verdict == predicate[EXTENSION]["verdict"] == verdict
    assert predicate["result"] == word
    assert bool(predicate["failedTests"]) == (verdict in {"fail", "inconclusive"})
    assert verify_evidence(report, signed(statement(report, registration)), PUBLIC).findings == ()


def test_an_audit_of_several_models_has_a_subject_and_tests_for_each() -> None:
    asked = request(POLICY[:1], models=2)
    report, registration = reported(asked), registered(asked)
    stated = statement(report, registration)
    assert [subject["name"] for subject in stated["subject"]] == ["one", "two"]
    assert stated["predicate"]["passedTests"] == ["one/0", "two/0"]
    assert verify_evidence(report, signed(stated), PUBLIC).findings == ()


EVERY = Condition(id="every", check="deletion", explainer="*", metric="srg", at_least=0.05, on_not_applicable="skip")
LAX = Condition(id="lax", check="deletion", explainer="gradient", metric="srg", at_least=-0.5)
"""A random order meets it."""


def test_what_a_pattern_matched_is_named_and_what_did_not_count_is_in_no_list() -> None:
    asked = request((EVERY, LAX))
    report, registration = reported(asked), registered(asked)
    predicate = statement(report, registration)["predicate"]
    assert [(one["test"], one["status"]) for one in predicate[EXTENSION]["conditions"]] == [
        ("every (deletion, gradient, srg)", "passed"),
        ("every (deletion, input_x_gradient, srg)", "skipped"),
        ("every (deletion, grad_cam, srg)", "skipped"),
        ("lax", "vacuous"),
    ]
    lists = [predicate[name] for name in ("passedTests", "warnedTests", "failedTests")]
    assert (predicate["result"], lists) == ("PASSED", [["every (deletion, gradient, srg)"], [], []])
    assert verify_evidence(report, signed(statement(report, registration)), PUBLIC).findings == ()


def test_an_outcome_that_a_pattern_lacks_or_did_not_match_is_found() -> None:
    asked = request((EVERY, LAX))
    registration, document = registered(asked), json.loads(reported(asked))

    def found(conditions: list[dict[str, Any]]) -> list[tuple[str, str]]:
        report = canonical_json(document | {"conditions": conditions})
        findings = verify_evidence(report, signed(statement(report, registration)), PUBLIC).findings
        return [(finding.where, finding.message) for finding in findings]

    first, *others = document["conditions"]
    lacks = "lacks the registered condition 'every' (deletion, gradient, srg)"
    assert found([first, *others]) == []
    assert found(others) == [("report.conditions", lacks)]
    elsewhere = first | {"metric": "lerf_auc"}
    assert found([elsewhere, *others]) == [
        ("report.conditions", lacks),
        ("report.conditions[0]", "is condition 'every' (deletion, gradient, lerf_auc), which was not registered"),
    ]


def test_no_leaf_of_the_report_can_be_changed(report: bytes, evidence: bytes) -> None:
    document = json.loads(report)
    paths = list(leaves(document))
    assert len(paths) > 200
    for path in paths:
        other = canonical_json(changed(document, path))
        assert fails(lambda other=other: verify_evidence(other, evidence, PUBLIC)), path


def test_no_leaf_of_the_statement_can_be_changed_without_the_key(report: bytes, evidence: bytes) -> None:
    envelope = json.loads(evidence)
    document = json.loads(base64.b64decode(envelope["payload"]))
    for path in leaves(document):
        payload = base64.b64encode(canonical_json(changed(document, path))).decode()
        other = canonical_json(envelope | {"payload": payload})
        assert fails(lambda other=other: verify_evidence(report, other, PUBLIC)), path


def test_no_leaf_of_the_statement_can_be_changed_with_the_key(report: bytes, evidence: bytes) -> None:
    """A deployment cannot sign a claim that its own report contradicts."""
    document = json.loads(payload_of(read_envelope(evidence)))
    paths = list(leaves(document))
    assert len(paths) > 50
    for path in paths:
        other = signed(changed(document, path))
        assert fails(lambda other=other: verify_evidence(report, other, PUBLIC)), path


def test_no_leaf_of_the_envelope_can_be_changed(report: bytes, evidence: bytes) -> None:
    envelope = json.loads(evidence)
    for path in leaves(envelope):
        other = canonical_json(changed(envelope, path))
        assert fails(lambda other=other: verify_evidence(report, other, PUBLIC)), path


def test_no_byte_of_the_evidence_can_be_changed(report: bytes, evidence: bytes) -> None:
    """Also none that leaves the document as it is: spaces, and bits of base64 that decoders ignore."""
    step = max(1, len(evidence) // 150)
    places = {*range(0, len(evidence), step), *range(40), *range(len(evidence) - 40, len(evidence))}
    for place in places:
        other = bytearray(evidence)
        other[place] ^= 1
        assert fails(lambda other=other: verify_evidence(report, bytes(other), PUBLIC)), place
    for other in (evidence + b"\n", evidence.replace(b":", b": ", 1), json.dumps(json.loads(evidence)).encode()):
        assert "reformat" in verify_evidence(report, other, PUBLIC).findings[0].message


def test_no_leaf_of_the_registration_can_be_changed_without_the_key(report: bytes, registration: bytes) -> None:
    envelope = json.loads(registration)
    document = json.loads(base64.b64decode(envelope["payload"]))
    for path in leaves(document):
        payload = base64.b64encode(canonical_json(changed(document, path))).decode()
        other = canonical_json(envelope | {"payload": payload})
        try:
            evidence = signed(statement(report, other))
        except ValueError:
            continue  # it is no registration any more, and no evidence can be made of it
        assert fails(lambda evidence=evidence: verify_evidence(report, evidence, PUBLIC)), path


UNSEEN = {("auditcore_version",), ("images", "reference"), ("registered_at",)}
"""What only the registration says. `registered_at` is compared with the start of the audit."""


def test_a_registration_signed_afterwards_must_agree_with_the_report(report: bytes, registration: bytes) -> None:
    document = json.loads(payload_of(read_envelope(registration)))
    for path in leaves(document):
        if path in UNSEEN:
            continue
        other = KEY.sign(canonical_json(changed(document, path)), payload_type=REGISTRATION_TYPE)
        try:
            evidence = signed(statement(report, other))
        except ValueError:
            continue
        assert fails(lambda evidence=evidence: verify_evidence(report, evidence, PUBLIC)), path


@pytest.mark.parametrize(
    ("asked", "changes", "where"),
    [
        (request(), {"registered_at": "2026-11-27T11:00:00.000Z"}, "registration.registered_at"),
        (request(), {"registered_at": "yesterday"}, "registration.registered_at"),
        (request(POLICY[:1]), {}, "report.conditions[1]"),
        (request((*POLICY, POLICY[0].model_copy(update={"id": "more"}))), {}, "report.conditions"),
        (request((POLICY[0].model_copy(update={"at_least": 0.5}), POLICY[1])), {}, "report.conditions[0].threshold"),
        (request((POLICY[0].model_copy(update={"at_least": None, "at_most": 0.05}), POLICY[1])), {},
         "report.conditions[0].comparison"),
        (request((POLICY[0].model_copy(update={"min_images": 99}), POLICY[1])), {},
         "report.conditions[0].min_images"),
    ],
)  # fmt: skip
def test_criteria_that_were_changed_after_submit_are_found(
    report: bytes, asked: AuditRequest, changes: dict[str, Any], where: str
) -> None:
    evidence = signed(statement(report, registered(asked, **changes)))
    found = {finding.where for finding in verify_evidence(report, evidence, PUBLIC).findings}
    assert where in found
    assert ("registration.request" in found) == (asked != request())


def test_every_reason_is_listed(report: bytes, registration: bytes) -> None:
    stated = statement(report, registration)
    stated["predicate"]["result"] = "PASSED"
    stated["subject"][0]["name"] = "another"
    found = verify_evidence(report, signed(stated, OTHER_KEY), PUBLIC).findings
    assert [finding.where for finding in found] == [
        "evidence",
        "statement.predicate.result",
        "statement.subject[0].name",
    ]
    assert OTHER_KEY.public.key_id in found[0].message
    assert found[1].message == "is 'PASSED', and 'WARNED' was expected"


def test_a_rotated_key_leaves_the_registration_to_the_old_one(report: bytes, registration: bytes) -> None:
    evidence = signed(statement(report, registration), OTHER_KEY)
    both = verify_evidence(report, evidence, [KEY.public, OTHER_KEY.public])
    assert both.findings == ()
    assert both.key_ids == (OTHER_KEY.public.key_id, KEY.public.key_id)
    only_new = verify_evidence(report, evidence, [OTHER_KEY.public]).findings
    assert [finding.where for finding in only_new] == [f"statement.predicate.{EXTENSION}.registration"]


def test_the_evidence_of_another_audit_is_no_evidence(report: bytes) -> None:
    other = reported(request(), 0.3)
    evidence = signed(statement(other, registered(request())))
    found = {finding.where for finding in verify_evidence(report, evidence, PUBLIC).findings}
    assert f"statement.predicate.{EXTENSION}.report.digest" in found


def test_a_registration_has_digests_that_anyone_can_recompute() -> None:
    asked = request()
    record = Registration.model_validate_json(payload_of(read_envelope(registered(asked))))
    assert record.request == digest_of(asked)
    assert record.plan == digest_of(made_up_audits.PLAN)
    assert record.policy == digest_of([condition.model_dump(mode="json") for condition in POLICY])
    assert record.seed == made_up_audits.PLAN.seed
    assert record.images.files == sha256("".join(f"{sha256(bytes([n]))}\n" for n in range(IMAGES)).encode())
    uris = asked.model_copy(update={"images": ImageUris(uris=(ImageUri(uri="file:///a.png"),))})
    assert Registration.model_validate_json(payload_of(read_envelope(registered(uris)))).images.files is None


@pytest.mark.parametrize(
    ("report_file", "evidence_file", "words"),
    [
        (b"not JSON", None, "the report cannot be read"),
        (b"{}", None, "the report cannot be read"),
        (None, b"not JSON", "the evidence cannot be read"),
        (None, b'{"payload":"e30=","payloadType":"x","signatures":[]}', "signatures"),
        (None, b'{"payload":"?","payloadType":"x","signatures":[{"keyid":"a","sig":""}]}', "base64"),
        (None, KEY.sign(b"{}", payload_type=STATEMENT_MEDIA_TYPE), "no statement about an audit"),
        (None, signed({"predicate": {EXTENSION: {"format": 2}}}), "use a newer auditcore"),
    ],
)
def test_files_that_are_something_else_are_said_to_be(
    report: bytes, evidence: bytes, report_file: bytes | None, evidence_file: bytes | None, words: str
) -> None:
    with pytest.raises(EvidenceUnreadable, match=words):
        verify_evidence(report_file or report, evidence_file or evidence, PUBLIC)


def test_an_old_report_has_no_evidence(evidence: bytes) -> None:
    from pathlib import Path  # noqa: PLC0415 - only this test

    old = (Path(__file__).parents[2] / "data" / "report-1.1.json").read_bytes()
    with pytest.raises(EvidenceUnreadable, match=r"schema 1\.1, which has no evidence"):
        verify_evidence(old, evidence, PUBLIC)


def test_a_public_key_is_read_from_either_half() -> None:
    assert PublicKey.from_pem(KEY.to_pem()).key_id == KEY.public.key_id
    assert PublicKey.from_pem(KEY.public.pem.encode()).key_id == KEY.public.key_id


def test_the_training_of_the_weights_is_named_and_must_fit_the_model() -> None:
    digest, other = f"sha256:{1:064d}", f"sha256:{2:064d}"
    asked = AuditRequest(
        model=DemoModel().as_factory().model_copy(update={"weights": Weights(uri=f"blob:{digest}")}),
        images=ImageBatchReference(digest="sha256:" + "0" * 64),
        plan=made_up_audits.PLAN,
        policy=POLICY,
    )
    report = reported(asked)

    def found(weights: str) -> tuple[dict[str, Any], Verification]:
        training = {"model": None, "training_id": "t", "weights": weights, "report": other}
        stated = statement(report, registered(asked, trainings=[training]))
        return stated["predicate"], verify_evidence(report, signed(stated), PUBLIC)

    predicate, verified = found(digest)
    assert verified.findings == ()
    assert [(one.training_id, one.report) for one in verified.trainings] == [("t", other)]
    assert [one["weights"] for one in predicate[EXTENSION]["trainings"]] == [digest]
    named = {one["name"]: one.get("digest") for one in predicate["configuration"]}
    assert named["report of the training"] == {"sha256": other.removeprefix("sha256:")}
    _, verified = found(other)
    assert [one.where for one in verified.findings] == ["registration.trainings[0].weights"]
