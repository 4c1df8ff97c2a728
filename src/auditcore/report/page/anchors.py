"""Places of the page that other places link to: the row of a result, and its cell in the summary."""

from __future__ import annotations

from dataclasses import dataclass

from auditcore.contracts.report import AuditReport
from auditcore.report.headlines import Key, results_by_key, summary_columns


@dataclass(frozen=True)
class Anchors:
    """Ids of elements.

    Attributes:
        rows: Result -> id of its row among all results.
        cells: Result of a headline metric -> id of its cell in the summary.
    """

    rows: dict[Key, str]
    cells: dict[Key, str]

    def evidence(self, key: Key) -> str | None:
        """Where the page shows a result best; None if it does not show it."""
        return self.cells.get(key) or self.rows.get(key)


def anchors_of(report: AuditReport) -> Anchors:
    """Ids of all results of a report, numbered in the order of the table of all results."""
    headlines = {(column.check, column.metric, column.variant) for column in summary_columns(report)}
    rows = {key: f"result-{number}" for number, key in enumerate(results_by_key(report))}
    cells = {
        key: row.replace("result", "summary")
        for key, row in rows.items()
        if key[4] is not None and (key[1], key[2], key[3]) in headlines
    }
    return Anchors(rows, cells)
