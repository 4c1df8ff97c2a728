"""The headline means of a report under names that metric stores accept."""

from __future__ import annotations

import re
from collections.abc import Mapping

from auditcore.contracts.report import AuditReport
from auditcore.report.headlines import summary_columns, summary_rows

MOST_CHARACTERS = 250
"""Longest name of a metric in MLflow."""

# MLflow allows letters, digits and these; a colon or a slash at the ends and `..` mean something to it
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_.\- /]+")


def headline_numbers(report: AuditReport) -> Mapping[str, float]:
    """Name -> mean of each headline metric that has one.

    Args:
        report: The audit's report.

    Returns:
        `check/metric/explainer`, with the sub-case after the metric and the model in front where there are any, such as
        `sweep/s_pearson.rotate/grad_cam`. Signs that a metric store refuses become `_`; a name that two numbers would
        share gets a number at its end.
    """
    found: dict[str, float] = {}
    columns = summary_columns(report)
    for row in summary_rows(report):
        for column, cell in zip(columns, row.cells, strict=True):
            if cell is None or cell.mean is None:
                continue
            metric = ".".join(part for part in (column.metric, column.variant) if part)
            name = "/".join(_legal(part) for part in (row.model, column.check, metric, row.explainer) if part)
            found[_free(name[:MOST_CHARACTERS], found)] = cell.mean
    return found


def _legal(part: str) -> str:
    """A part of a name; a path of only dots would lead to another metric."""
    return _NOT_ALLOWED.sub("_", part).replace("/", "_").strip(" .") or "_"


def _free(name: str, taken: Mapping[str, float]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[: MOST_CHARACTERS - 5]}.{number}"
    return free
