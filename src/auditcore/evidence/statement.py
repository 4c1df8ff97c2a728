"""The result of an audit as an in-toto Statement v1 with the predicate `test-result/v0.1`.

Source: github.com/in-toto/attestation, `spec/v1/statement.md` and `spec/predicates/test-result.md`.

A statement follows from the bytes of the report and the signed registration, and from nothing else. So anyone who has
both can write it again and compare; it holds no time of signing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from auditcore.contracts.canonical_json import sha256
from auditcore.evidence.registration import Registration
from auditcore.evidence.signing import payload_of, read_envelope

STATEMENT_MEDIA_TYPE: Final = "application/vnd.in-toto+json"
"""Type of the payload of a signed statement."""

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://in-toto.io/attestation/test-result/v0.1"

EXTENSION: Final = "auditcore_audit"
"""The field of the predicate with everything that the predicate has no field for."""

FORMAT: Final = 1
"""Version of the extension."""

RESULTS: Final[Mapping[str, str]] = {
    "pass": "PASSED",
    "warn": "WARNED",
    "fail": "FAILED",
    # the predicate has three words. `WARNED` means passed, with warnings; these two have not passed
    "inconclusive": "FAILED",
    "not_evaluated": "FAILED",
}
"""Verdict -> word of the predicate. The extension has the verdict itself."""

DO_NOT_COUNT: Final = frozenset({"vacuous", "skipped"})
"""Statuses of conditions that the verdict leaves out."""

_SINGLE_FILE = frozenset({"mar", "onnx", "torchscript", "torch_export"})
"""Kinds of models whose `sha256` is that of one file; of others it is computed over several files or a description."""


def statement(report: bytes, registration: bytes) -> dict[str, Any]:
    """The statement about a report.

    Args:
        report: The report, byte for byte as the service serves it.
        registration: The signed registration of its audit: a DSSE envelope.

    Raises:
        EnvelopeUnreadable: The registration is no envelope.
        ValueError: The registration or the report is not one.
    """
    document = json.loads(report)
    envelope = read_envelope(registration)
    record = Registration.model_validate_json(payload_of(envelope))
    manifest = document["manifest"]
    conditions = document["conditions"]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [_subject(model) for model in models_of(document)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": RESULTS[document["verdict"]],
            "configuration": [
                json_resource("request", manifest["request_digest"]),
                json_resource("plan", manifest["plan_digest"]),
                json_resource("policy", record.policy),
                json_resource("images", record.images.reference),
                *(json_resource("report of the training", training.report) for training in record.trainings),
                {"name": "auditcore", "uri": f"pkg:pypi/auditcore@{manifest['auditcore_version']}"},
            ],
            "passedTests": _tests(conditions, "PASSED"),
            "warnedTests": _tests(conditions, "WARNED"),
            "failedTests": _tests(conditions, "FAILED"),
            EXTENSION: {
                "format": FORMAT,
                "audit_id": document["audit_id"],
                "verdict": document["verdict"],
                "report": {"digest": sha256(report), "schema_version": document["schema_version"]},
                "conditions": [
                    _condition(name, outcome)
                    for name, outcome in zip(condition_names(conditions), conditions, strict=True)
                ],
                "counts": {
                    "conditions": document["statistics"],
                    "images": {
                        "count": document["images"]["count"],
                        "used": document["images"]["used"],
                        "excluded": len(document["images"]["excluded"]),
                        "not_examined": document["images"].get("not_examined", 0),
                        "digest": document["images"]["digest"],
                    },
                    "results": len(document["results"]),
                },
                "seed": manifest["seed"],
                "environment": manifest["environment"],
                "started_at": manifest["started_at"],
                "finished_at": manifest["finished_at"],
                **_signatures(document),
                **_trainings(record),
                "registration": envelope.model_dump(mode="json", by_alias=True),
            },
        },
    }


def _signatures(report: Mapping[str, Any]) -> dict[str, Any]:
    """The verified signatures of models by their names in the statement; nothing without any, as in older evidence."""
    found = {model.get("name") or "model": model["signature"] for model in models_of(report) if "signature" in model}
    return {"model_signatures": found} if found else {}


def _trainings(record: Registration) -> dict[str, Any]:
    """The trainings that have made the weights; nothing without any, as in older evidence."""
    found = [training.model_dump(mode="json") for training in record.trainings]
    return {"trainings": found} if found else {}


def models_of(report: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """The entries of all models of a report, as its JSON has them."""
    model = report["model"]
    return report["models"] if model is None else [model]


def condition_names(outcomes: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Names of conditions as tests: the id, in an audit of several models with the model.

    A condition with a pattern has several outcomes. Their names also say what was judged.
    """
    names = [one["id"] if one.get("model") is None else f"{one['model']}/{one['id']}" for one in outcomes]
    several = {name for name, count in Counter(names).items() if count > 1}
    return [f"{name} ({_judged(one)})" if name in several else name for name, one in zip(names, outcomes, strict=True)]


def _judged(outcome: Mapping[str, Any]) -> str:
    parts = (outcome[name] for name in ("check", "explainer", "metric", "variant"))
    return ", ".join(part for part in parts if part is not None)


def _subject(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model with its digests.

    `auditcoreModel` is the digest of the report: over names, types, shapes and bytes of all parameters and buffers, or
    what a server says. `sha256` is that of its file, where the model is one file that was pinned.
    """
    reference = model["reference"]
    digests = {"auditcoreModel": hexadecimal(model["digest"])}
    weights = reference.get("weights")
    file = reference.get("sha256") if reference["kind"] in _SINGLE_FILE else None
    if isinstance(weights, dict):
        file = weights.get("sha256")
    if file is not None:
        digests["sha256"] = hexadecimal(file)
    return {"name": model.get("name") or "model", "digest": digests}


def json_resource(name: str, digest: str) -> dict[str, Any]:
    """A ResourceDescriptor of a document whose digest is that of its canonical JSON."""
    return {"name": name, "mediaType": "application/json", "digest": {"sha256": hexadecimal(digest)}}


def _tests(conditions: Sequence[Mapping[str, Any]], word: str) -> list[str]:
    names = condition_names(conditions)
    return [name for name, outcome in zip(names, conditions, strict=True) if _word(outcome) == word]


def _word(outcome: Mapping[str, Any]) -> str | None:
    """The list of the predicate that a condition belongs to, so that the lists and the result agree; None for none.

    A condition that did not count for the verdict is in no list; the extension has it.

    A condition of severity `warn` that did not pass is a warning, whatever became of it; one of severity `fail` that
    did not pass has failed to show what it had to show.
    """
    if outcome["status"] == "passed":
        return "PASSED"
    if outcome["status"] in DO_NOT_COUNT:
        return None
    return "WARNED" if outcome["severity"] == "warn" else "FAILED"


def _condition(name: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """A condition: what was compared with what, over how many images, and what became of it."""
    return {"test": name, **{field: value for field, value in outcome.items() if field != "message"}}


def hexadecimal(digest: str) -> str:
    """A digest as in-toto writes it, without the name of its algorithm."""
    return digest.removeprefix("sha256:")
