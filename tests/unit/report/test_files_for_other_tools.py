"""The report as a CycloneDX ML-BOM and as the metadata of a model card: read back by foreign implementations."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub.repocard_data import model_index_to_eval_results

import made_up_audits
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.report import AuditReport
from auditcore.report.ml_bom import render_ml_bom
from auditcore.report.model_index import render_model_index
from auditcore.report.published_metrics import published_metrics
from auditcore.report.serialize import report_bytes

VALUES = [0.2 + 0.001 * index for index in range(9)]
USED = dict.fromkeys(range(9), (1,))


def measured(*models: str | None) -> AuditReport:
    rows = [
        made_up_audits.row("gradient", VALUES),
        made_up_audits.row("gradient", VALUES, metric="inter_model_deletion"),
        made_up_audits.row("gradient", [None] * 9, metric="lerf_auc", reasons=dict.fromkeys(range(9), "no value")),
        made_up_audits.row("random", VALUES),
    ]
    return made_up_audits.report(*(made_up_audits.shard(model, USED, *rows) for model in models))


@pytest.fixture(scope="module", params=[(None,), ("one", "two")], ids=["one model", "two models"])
def report(request: pytest.FixtureRequest) -> AuditReport:
    return measured(*request.param)


def bom(report: AuditReport) -> str:
    return render_ml_bom(report, sha256(report_bytes(report)))


def test_the_bom_is_valid_and_the_same_each_time(report: AuditReport) -> None:
    text = bom(report)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert bom(report) == text


def test_a_document_that_breaks_the_schema_would_be_found(report: AuditReport) -> None:
    document = json.loads(bom(report))
    document["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] = 0.2
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is not None


def test_the_library_reads_the_models_and_the_digest_of_the_report(report: AuditReport) -> None:
    document = json.loads(bom(report))
    for component in document["components"]:
        del component["modelCard"]  # the library knows none
    read: Any = Bom.from_json(document)  # type: ignore[attr-defined]  # the library adds it by a decorator
    assert {component.name for component in read.components} == {
        model.name or "model" for model in report.audited_models
    }
    for component in read.components:
        assert component.type.value == "machine-learning-model"
        (reference,) = component.external_references
        (digest,) = reference.hashes
        assert f"sha256:{digest.content}" == sha256(report_bytes(report))


def test_a_model_card_lists_headline_metrics_with_intervals(report: AuditReport) -> None:
    cards = [component["modelCard"] for component in json.loads(bom(report))["components"]]
    expected = next(row for row in report.results if row.metric == "inter_model_deletion")
    assert expected.ci is not None
    for card in cards:
        (metric,) = [
            one for one in card["quantitativeAnalysis"]["performanceMetrics"] if "inter_model_deletion" in one["type"]
        ]
        assert float(metric["value"]) == expected.mean
        assert float(metric["confidenceInterval"]["lowerBound"]) == expected.ci[0]
        assert not any("lerf_auc" in one["type"] for one in card["quantitativeAnalysis"]["performanceMetrics"])


def test_the_hub_reads_the_model_index(report: AuditReport) -> None:
    index = yaml.safe_load(render_model_index(report))["model-index"]
    assert [entry["name"] for entry in index] == [model.name or "model" for model in report.audited_models]
    for entry, model in zip(index, report.audited_models, strict=True):
        name, results = model_index_to_eval_results([entry])
        assert name == entry["name"]
        assert {one.dataset_revision for one in results} == {report.images.digest}
        assert results[0].metric_value == report.verdict
        assert [(one.metric_type, one.metric_value) for one in results[1:]] == [
            (one.metric, one.value) for one in published_metrics(report, model)
        ]


def test_no_file_claims_more_than_was_measured(report: AuditReport) -> None:
    for text in (bom(report), render_model_index(report)):
        assert "complian" not in text.lower()
        assert "certif" not in text.lower()
