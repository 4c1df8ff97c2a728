"""The numbers of a report that files for other tools list: accuracy, and the headline metrics of each explainer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from auditcore.contracts.report import AuditReport, ReportModel
from auditcore.report.headlines import check_kinds, is_headline


@final
@dataclass(frozen=True)
class PublishedMetric:
    """One number about a model.

    Attributes:
        metric: Name of the metric, such as `accuracy` or `inter_model_deletion`.
        text: What it is of, for a reader.
        value: Mean over images.
        ci: 95 % confidence interval of the mean; None if there is none.
        n: Number of images.
    """

    metric: str
    text: str
    value: float
    ci: tuple[float, float] | None
    n: int


def published_metrics(report: AuditReport, model: ReportModel) -> Iterator[PublishedMetric]:
    """The numbers of one model of a report, in its order; metrics without a value are left out.

    Args:
        report: The report.
        model: One of its models.
    """
    performance = model.performance
    for name, value in (("accuracy", performance.accuracy), ("macro_f1", performance.macro_f1)):
        if value is not None:
            yield PublishedMetric(name, f"{name} on the images of the audit", value, None, performance.n)
    kinds = check_kinds(report)
    for row in report.results:
        if row.model != model.name or row.explainer is None or row.mean is None:
            continue
        if is_headline(kinds[row.check], row.metric, row.variant):
            variant = "" if row.variant is None else f" [{row.variant}]"
            text = f"{row.check}: {row.metric}{variant} of {row.explainer}"
            yield PublishedMetric(row.metric, text, row.mean, row.ci, row.n)
