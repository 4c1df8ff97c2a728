"""Explainers side by side with their intervals: one chart a headline metric."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from auditcore.contracts.report import AuditReport
from auditcore.report.headlines import summary_columns, summary_rows
from auditcore.report.page.charts import Interval, interval_chart, mark, style_of, svg


def forests(report: AuditReport) -> Iterator[tuple[str, str, Markup]]:
    """Title, meaning and chart of the headline metrics: explainers side by side with their intervals."""
    rows = summary_rows(report)
    numbers = {model.name: number for number, model in enumerate(report.audited_models)}
    explainers = list(dict.fromkeys(row.explainer for row in rows))
    together = sorted(rows, key=lambda row: (explainers.index(row.explainer), numbers[row.model]))
    for position, column in enumerate(summary_columns(report)):
        intervals = [
            Interval(row.explainer, cell.mean, cell.ci, muted=row.control, number=numbers[row.model], model=row.model)
            for row in together
            if (cell := row.cells[position]) is not None and cell.mean is not None
        ]
        if intervals:
            title = f"{column.check}: {column.title}"
            yield title, column.meaning, interval_chart(title, intervals)


def model_marks(report: AuditReport) -> Iterator[tuple[str, Markup]]:
    """Name and mark of every model of several, for the legend of the interval charts."""
    for number, model in enumerate(report.models):
        name = model.name or ""
        yield name, svg(name, 12, 12, [mark(number, style_of(number), 6, 6, name)])
