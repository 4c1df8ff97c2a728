"""The results of a report as CSV, by the standard library: the rows of `AuditReport.to_frame`."""

from __future__ import annotations

import csv
import io

from auditcore.contracts.report import AuditReport
from auditcore.contracts.report_rows import ImageRow, ResultRow, image_rows, result_rows


def report_csv(report: AuditReport, *, per_image: bool) -> bytes:
    """A table in UTF-8 with a line of names; what is undefined is an empty field, and yes and no are true and false.

    Args:
        report: The report.
        per_image: Whether there is a row per result and image; else one per result.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ImageRow._fields if per_image else ResultRow._fields)
    for row in image_rows(report) if per_image else result_rows(report):
        writer.writerow([str(value).lower() if isinstance(value, bool) else value for value in row])
    return text.getvalue().encode()
