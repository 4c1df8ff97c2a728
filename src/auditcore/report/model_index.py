"""A report as `model-index`, the metadata of a model card by which the Hugging Face hub lists evaluation results.

Source: github.com/huggingface/hub-docs, `modelcard.md`. The newer `.eval_results` files name a benchmark dataset of the
hub, which the images of an audit are not.
"""

from __future__ import annotations

from typing import Any

import yaml

from auditcore.contracts.report import AuditReport, ReportModel
from auditcore.report.published_metrics import PublishedMetric, published_metrics


def render_model_index(report: AuditReport) -> str:
    """YAML for the head of a model card: each model with its verdict and its headline metrics.

    The dataset is named by the digest of the images.
    """
    index = [{"name": model.name or "model", "results": [_results(report, model)]} for model in report.audited_models]
    text: str = yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True)
    return text


def _results(report: AuditReport, model: ReportModel) -> dict[str, Any]:
    return {
        "task": {"type": "image-classification", "name": "Audit of explanations"},
        "dataset": {
            "type": "images",
            "name": f"{report.images.used} images",
            "revision": report.images.digest,
        },
        "metrics": [
            # the hub asks for at least one metric; an audit may have none with a value
            {"type": "verdict", "name": f"verdict of audit {report.audit_id}", "value": report.verdict},
            *(_metric(one) for one in published_metrics(report, model)),
        ],
    }


def _metric(one: PublishedMetric) -> dict[str, Any]:
    arguments: dict[str, Any] = {"images": one.n}
    if one.ci is not None:
        arguments["ci_95"] = list(one.ci)
    return {"type": one.metric, "name": one.text, "value": one.value, "args": arguments}
