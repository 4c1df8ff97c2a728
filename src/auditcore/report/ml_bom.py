"""A report as a fragment of a CycloneDX ML-BOM (1.6): each model with a model card of what was measured.

`cyclonedx-python-lib` writes the document. It has no classes for model cards, so they are added to its components; a
test validates the whole against the schema of CycloneDX.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6

from auditcore.contracts.canonical_json import canonical_json
from auditcore.contracts.report import AuditReport, ReportModel
from auditcore.report.published_metrics import PublishedMetric, published_metrics

_NAMESPACE: Final = uuid.UUID("6f3a2d34-6c0f-5b2e-9a57-0d2f9d1a7c11")
"""Of serial numbers, so that equal reports are equal documents."""


def render_ml_bom(report: AuditReport, digest: str) -> str:
    """CycloneDX 1.6 in JSON; the same report gives the same bytes.

    Args:
        report: The report.
        digest: sha256 of the report as it is served.
    """
    finished = report.manifest.finished_at
    components = [_component(report, model, digest) for model in report.audited_models]
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(_NAMESPACE, digest),
        metadata=BomMetaData(
            # the library puts the present in place of no time
            timestamp=datetime.fromtimestamp(0, tz=UTC) if finished is None else datetime.fromisoformat(finished),
            tools=ToolRepository(
                components=[
                    Component(
                        type=ComponentType.APPLICATION, name="auditcore", version=report.manifest.auditcore_version
                    )
                ]
            ),
        ),
    )
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    if finished is None:
        del document["metadata"]["timestamp"]
    cards = {_reference(model): _card(report, model) for model in report.audited_models}
    for component in document["components"]:
        component["modelCard"] = cards[component["bom-ref"]]
    return canonical_json(document).decode()


def _reference(model: ReportModel) -> str:
    return f"model-{model.name or 'audited'}"


def _component(report: AuditReport, model: ReportModel, digest: str) -> Component:
    properties = {
        "auditcore:model-digest": model.digest,
        "auditcore:audit-id": report.audit_id,
        "auditcore:verdict": report.verdict,
        "auditcore:images-digest": report.images.digest,
        "auditcore:plan-digest": report.manifest.plan_digest,
    }
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=model.name or "model",
        bom_ref=_reference(model),
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.QUALITY_METRICS,
                url=XsUri(f"urn:auditcore:audit:{report.audit_id}"),
                comment="report of the audit, in JSON",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
            )
        ],
        properties=[Property(name=name, value=value) for name, value in properties.items()],
    )


def _card(report: AuditReport, model: ReportModel) -> dict[str, Any]:
    parameters = {"task": "image-classification"}
    if model.architecture is not None:
        parameters["modelArchitecture"] = model.architecture
    metrics = [_metric(one) for one in published_metrics(report, model)]
    return {"modelParameters": parameters, "quantitativeAnalysis": {"performanceMetrics": metrics}}


def _metric(one: PublishedMetric) -> dict[str, Any]:
    """A metric as the schema has it: all numbers are text."""
    metric: dict[str, Any] = {"type": one.text, "value": repr(one.value)}
    if one.ci is not None:
        low, high = one.ci
        metric["confidenceInterval"] = {"lowerBound": repr(low), "upperBound": repr(high)}
    return metric
