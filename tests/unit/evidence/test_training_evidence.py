"""Evidence of a training: it holds as written, and no field of its documents and no byte of its weights can change."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import digits
from auditcore import TrainingRequest, train
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import canonical_json, sha256
from auditcore.evidence.signing import SigningKey, payload_of, read_envelope
from auditcore.evidence.statement import STATEMENT_MEDIA_TYPE
from auditcore.evidence.training_registration import TRAINING_REGISTRATION_TYPE, register_training
from auditcore.evidence.training_statement import PROVENANCE_TYPE, TRAINING_EXTENSION, training_statement
from auditcore.evidence.training_verification import TrainingVerification, verify_training_evidence
from auditcore.evidence.verification import EvidenceUnreadable, verify_evidence
from service_trainings import NETWORK, body_of

KEY, OTHER_KEY = SigningKey.generate(), SigningKey.generate()
PUBLIC = [KEY.public]
REGISTERED_AT = "2026-11-27T10:00:00.000Z"


def signed(document: dict[str, Any]) -> bytes:
    return KEY.sign(canonical_json(document), payload_type=STATEMENT_MEDIA_TYPE)


class Made:
    """A training, its report and its evidence."""

    def __init__(self) -> None:
        body = body_of({"kind": "batch", "digest": f"sha256:{0:064d}"}, epochs=1)
        trained = train(
            TrainingRequest.model_validate(body),
            images=digits.encoded(12, labeled=True),
            access=AccessRules(factories=(NETWORK,)),
            training_id="t",
        )
        self.report, self.weights = canonical_json(trained.report), trained.weights
        record = register_training(training_id="t", request=trained.report.request, registered_at=REGISTERED_AT)
        self.record: dict[str, Any] = record.model_dump(mode="json")
        self.registration = KEY.sign(canonical_json(record), payload_type=TRAINING_REGISTRATION_TYPE)
        self.stated = training_statement(self.report, self.registration)
        self.evidence = signed(self.stated)

    def verify(
        self, *, report: bytes | None = None, evidence: bytes | None = None, weights: bytes | None = None
    ) -> TrainingVerification:
        return verify_training_evidence(
            report or self.report, evidence or self.evidence, PUBLIC, weights=weights or self.weights
        )


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


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
            at[path[-1]] = value[:-1] + ("0" if value.endswith("1") else "1")
        case None:
            at[path[-1]] = "1"
        case dict():
            at[path[-1]] = {"1": 1}
        case list():
            at[path[-1]] = [1]
    return other


def fails(check: Callable[[], TrainingVerification]) -> bool:
    """Whether evidence is refused, either as unreadable or by what was found."""
    try:
        return bool(check().findings)
    except EvidenceUnreadable:
        return True


def test_evidence_holds_as_written(made: Made) -> None:
    found = made.verify()
    assert found.findings == ()
    assert found.key_ids == (KEY.public.key_id,)
    assert (found.training_id, found.registered_at, found.weights_compared) == ("t", REGISTERED_AT, True)
    assert found.weights == sha256(made.weights)
    assert not verify_training_evidence(made.report, made.evidence, PUBLIC).weights_compared


def test_it_says_from_what_the_weights_were_made(made: Made) -> None:
    report = json.loads(made.report)
    assert made.stated["_type"] == "https://in-toto.io/Statement/v1"
    assert made.stated["predicateType"] == PROVENANCE_TYPE == "https://slsa.dev/provenance/v1"
    weights, document = made.stated["subject"]
    assert f"sha256:{weights['digest']['sha256']}" == sha256(made.weights)
    assert f"sha256:{document['digest']['sha256']}" == sha256(made.report)
    build, run = (made.stated["predicate"][name] for name in ("buildDefinition", "runDetails"))
    # what SLSA Provenance v1 requires
    assert {"buildType", "externalParameters", "resolvedDependencies"} <= build.keys()
    assert run["builder"]["id"].startswith("pkg:pypi/auditcore@")
    assert run["metadata"]["invocationId"] == "t"
    start, training, validation = build["resolvedDependencies"]
    # random weights are no file
    assert start["digest"] == {"auditcoreModel": report["start"]["digest"].removeprefix("sha256:")}
    for one, name in ((training, "training_digest"), (validation, "validation_digest")):
        assert f"sha256:{one['digest']['auditcoreImages']}" == report["data"][name]
    plan = build["externalParameters"]["plan"]
    assert f"sha256:{plan['digest']['sha256']}" == report["plan_digest"] == made.record["plan"]


def test_weights_of_a_file_at_the_start_are_named_by_it(made: Made) -> None:
    report = json.loads(made.report)
    report["request"]["model"]["weights"] = {"uri": "file:///start.safetensors", "sha256": f"sha256:{5:064d}"}
    stated = training_statement(canonical_json(report), made.registration)
    start = stated["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert start["digest"]["sha256"] == f"{5:064d}"


def test_no_leaf_of_the_report_can_be_changed(made: Made) -> None:
    document = json.loads(made.report)
    for path in leaves(document):
        other = canonical_json(changed(document, path))
        assert fails(lambda other=other: made.verify(report=other)), path


def test_no_leaf_of_the_statement_can_be_changed_with_the_key(made: Made) -> None:
    """A deployment cannot sign a claim that its own report contradicts."""
    paths = list(leaves(made.stated))
    assert len(paths) > 30
    for path in paths:
        other = signed(changed(made.stated, path))
        assert fails(lambda other=other: made.verify(evidence=other)), path


UNSEEN = {("auditcore_version",), ("registered_at",)}
"""What only the registration says."""


def test_a_registration_signed_afterwards_must_agree_with_the_report(made: Made) -> None:
    for path in set(leaves(made.record)) - UNSEEN:
        other = KEY.sign(canonical_json(changed(made.record, path)), payload_type=TRAINING_REGISTRATION_TYPE)
        try:
            evidence = signed(training_statement(made.report, other))
        except ValueError:
            continue  # it is no registration any more
        assert fails(lambda evidence=evidence: made.verify(evidence=evidence)), path


def test_other_weights_are_found(made: Made) -> None:
    other = bytearray(made.weights)
    other[-1] ^= 1
    assert [finding.where for finding in made.verify(weights=bytes(other)).findings] == ["weights"]
    longer = made.verify(weights=made.weights + b"1")
    assert [finding.where for finding in longer.findings] == ["weights", "weights.size_bytes"]


@pytest.mark.parametrize(
    ("name", "where"),
    [("weights", "report.trained.reference.weights.sha256"), ("plan_digest", "report.plan_digest")],
)
def test_a_report_that_contradicts_itself_is_found(made: Made, name: str, where: str) -> None:
    """Statement and registration are written anew, so that only what the report says twice can show it."""
    report = json.loads(made.report)
    if name == "weights":
        report["trained"]["reference"]["weights"]["sha256"] = f"sha256:{1:064d}"
    else:
        report["plan_digest"] = f"sha256:{1:064d}"
    record = made.record | {"plan": report["plan_digest"]}
    registration = KEY.sign(canonical_json(record), payload_type=TRAINING_REGISTRATION_TYPE)
    written = canonical_json(report)
    found = made.verify(report=written, evidence=signed(training_statement(written, registration)))
    assert [finding.where for finding in found.findings] == [where]


def test_another_key_and_another_type_do_not_sign(made: Made) -> None:
    place = f"statement.predicate.{TRAINING_EXTENSION}.registration"
    found = verify_training_evidence(made.report, made.evidence, [OTHER_KEY.public])
    assert [finding.where for finding in found.findings] == ["evidence", place]
    other = KEY.sign(payload_of(read_envelope(made.registration)), payload_type="application/json")
    evidence = signed(training_statement(made.report, other))
    assert [finding.where for finding in made.verify(evidence=evidence).findings] == [place]


def test_files_of_another_kind_cannot_be_read(made: Made) -> None:
    with pytest.raises(EvidenceUnreadable, match="the report cannot be read"):
        verify_evidence(made.report, made.evidence, PUBLIC)
    with pytest.raises(EvidenceUnreadable, match="the report of the training cannot be read"):
        made.verify(report=b"{}")
    with pytest.raises(EvidenceUnreadable, match=f"about a training: it has no `predicate.{TRAINING_EXTENSION}`"):
        made.verify(evidence=signed({"predicate": {}}))
    with pytest.raises(EvidenceUnreadable, match="use a newer auditcore"):
        made.verify(evidence=signed({"predicate": {TRAINING_EXTENSION: {"format": 2}}}))
